"""The trainer's line to the store: a thread that writes points in batches and reads what was asked of the run."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy.exc import DBAPIError

from engine.runtime.child import Context
from storage import jobs, metrics, samples
from storage.errors import Fenced, StoreGone
from storage.jobs import Flags
from storage.metrics import Point
from storage.patience import patiently
from storage.samples import NewSample

log = logging.getLogger(__name__)

INTERVAL_S = 0.25


class Reporter:
    """Points go in without waiting; `flags` and `fenced` come out.

    Invariant: once `fenced` is set nothing more is written.
    """

    def __init__(self, context: Context, *, lease_s: float) -> None:
        self._context, self._lease_s = context, lease_s
        self._points: list[Point] = []
        self._samples: dict[int, Sequence[NewSample]] = {}
        self._step: tuple[int, int] | None = None
        self._beat = False
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

    def keep(self, step: int, new: Sequence[Mapping[str, Any]]) -> None:
        """Queue the samples of a step, each with the fields of a `NewSample`."""
        with self._lock:
            self._samples[step] = [NewSample(**one) for one in new]

    def step(self, step: int, total: int) -> None:
        """Queue the newest progress."""
        with self._lock:
            self._step = (step, total)

    def beat(self) -> None:
        """Queue the word that the run moves, where neither step nor phase tell it."""
        self._beat = True

    def flush(self) -> None:
        """Write what is queued now; again where the store is not reached, as long as the lease.

        Raises:
            Fenced: the job is no longer ours.
            DBAPIError: the store was not reached for that long.
        """
        patiently(self._write, patience_s=self._lease_s)

    def _write(self) -> None:
        with self._writing:
            with self._lock:
                points, self._points = self._points, []
                drawn, self._samples = self._samples, {}
                step, self._step = self._step, None
                beat, self._beat = self._beat, False
            store = self._context.store
            try:
                with store.write() if points or drawn or step or beat else store.read() as session:
                    if points:
                        metrics.append(session, self._context.claim, points)
                    for at, new in drawn.items():
                        samples.add(session, self._context.claim, at, new)
                    if step:
                        jobs.progress(session, self._context.claim, step=step[0], total=step[1])
                    elif beat:
                        jobs.beat(session, self._context.claim)
                    self.flags = jobs.flags(session, self._context.claim)
            except (Fenced, StoreGone):
                self.fenced.set()
                raise
            except DBAPIError:
                with self._lock:
                    self._points = points + self._points
                    self._samples = drawn | self._samples
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
                self._write()
            except (Fenced, StoreGone) as error:
                log.error("stopped job=%s token=%s: %s", self._context.claim.job_id, self._context.claim.token, error)
            except DBAPIError as error:
                log.warning("store not reached, points kept: %s", error)
                if time.monotonic() - self._reached > self._lease_s:
                    self.fenced.set()
