"""The trainer's line to the store: a thread that writes points in batches and reads what was asked of the run."""

from __future__ import annotations

import logging
import threading
import time

from sqlalchemy.exc import DBAPIError

from engine.runtime.child import Context
from storage import jobs, metrics
from storage.errors import Fenced
from storage.jobs import Flags
from storage.metrics import Point

log = logging.getLogger(__name__)

INTERVAL_S = 0.25


class Reporter:
    """Points go in without waiting; `flags` and `fenced` come out.

    Invariant: once `fenced` is set nothing more is written.
    """

    def __init__(self, context: Context, *, lease_s: float) -> None:
        self._context, self._lease_s = context, lease_s
        self._points: list[Point] = []
        self._step: tuple[int, int] | None = None
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._end = threading.Event()
        self._reached = time.monotonic()
        self.flags = Flags(False, False, False)
        self.fenced = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reporter", daemon=True)
        self._thread.start()

    def put(self, points: list[Point]) -> None:
        """Queue points of the curves."""
        with self._lock:
            self._points.extend(points)

    def step(self, step: int, total: int) -> None:
        """Queue the newest progress."""
        with self._lock:
            self._step = (step, total)

    def flush(self) -> None:
        """Write what is queued now.

        Raises:
            Fenced: the job is no longer ours.
        """
        with self._writing:
            with self._lock:
                points, self._points = self._points, []
                step, self._step = self._step, None
            store = self._context.store
            try:
                with store.write() if points or step else store.read() as session:
                    if points:
                        metrics.append(session, self._context.claim, points)
                    if step:
                        jobs.progress(session, self._context.claim, step=step[0], total=step[1])
                    self.flags = jobs.flags(session, self._context.claim)
            except Fenced:
                self.fenced.set()
                raise
            except DBAPIError:
                with self._lock:
                    self._points = points + self._points
                    self._step = self._step or step
                raise
            self._reached = time.monotonic()

    def close(self) -> None:
        """Write the rest and end the thread."""
        self._end.set()
        self._thread.join()
        self.flush()

    def _run(self) -> None:
        while not self._end.wait(INTERVAL_S) and not self.fenced.is_set():
            try:
                self.flush()
            except Fenced:
                log.error("fenced job=%s token=%s", self._context.claim.job_id, self._context.claim.token)
            except DBAPIError as error:
                log.warning("store not reached, points kept: %s", error)
                if time.monotonic() - self._reached > self._lease_s:
                    self.fenced.set()
