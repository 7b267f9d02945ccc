"""Telling the end of each job to the webhook: in a thread of the worker, at least once, and never in a job's way."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Mapping

from sqlalchemy.exc import DBAPIError

from engine.runtime.posting import NotReached, post
from engine.specs import outside
from engine.specs.outside import WEBHOOK_ALLOW, Address
from engine.specs.problem import ProblemError
from storage import notices, settings, workers
from storage.database import Store
from storage.errors import StoreError
from storage.jobs import Job

log = logging.getLogger(__name__)

LOOK_EVERY_S = 2.0
TIMEOUT_S = 10.0
MOST_TRIES = 8
"""With a pause of 30 s that doubles, the last one comes about an hour after the first."""


class Notifier(threading.Thread):
    """Looks for ends that nobody was told; of several workers on a store, the one that was started first tells."""

    def __init__(
        self,
        store: Store,
        worker_id: int,
        *,
        pause_s: float,
        environment: Mapping[str, str] = os.environ,
        look_every_s: float = LOOK_EVERY_S,
    ) -> None:
        super().__init__(name="notifier", daemon=True)
        self._store, self._pause_s = store, pause_s
        self.worker_id = worker_id
        """Our row; another one once we were forgotten and listed anew."""
        self._allow = outside.allowed(environment, WEBHOOK_ALLOW)
        self._look_every_s = look_every_s
        self._ending = threading.Event()
        self._not_before: dict[int, float] = {}

    def run(self) -> None:
        """Look again and again; the last time after the end was asked for."""
        while True:
            last = self._ending.is_set()
            try:
                self.look()
            except (DBAPIError, StoreError) as error:
                log.warning("store not reached: %s", error)
            if last:
                return
            self._ending.wait(self._look_every_s)

    def close(self) -> None:
        """Tell what has ended by now, if the receiver is quick; what is left is told by the next worker."""
        self._ending.set()
        self.join(timeout=TIMEOUT_S + 2.0)

    def look(self) -> None:
        """Tell every end that is due."""
        with self._store.read() as session:
            if any(one.id < self.worker_id for one in workers.live(session)):
                return
            waiting = notices.pending(session)
            url = settings.get(session, notices.WEBHOOK)
        for job in waiting:
            if not url:
                with self._store.write() as session:
                    notices.told(session, job)
            elif time.monotonic() >= self._not_before.get(job.id, 0.0):
                self._tell(job, str(url))

    def _tell(self, job: Job, url: str) -> None:
        try:
            to = outside.check(url, self._allow, WEBHOOK_ALLOW)
            send(to, body_of(job), allow=self._allow)
        except ProblemError as error:
            self._failed(job, error.problems[0].code)
        except NotReached as error:
            self._failed(job, str(error))
        else:
            self._not_before.pop(job.id, None)
            with self._store.write() as session:
                notices.told(session, job, {})
            log.info("told job=%d state=%s", job.id, job.state)

    def _failed(self, job: Job, why: str) -> None:
        with self._store.write() as session:
            count = 1 + notices.tries(session, job)
            notices.failed(session, job, {"error": why, "tries": count})
            if count >= MOST_TRIES:
                notices.told(session, job)
        self._not_before[job.id] = time.monotonic() + self._pause_s * 2 ** (count - 1)
        log.warning("not told job=%d try=%d of %d: %s", job.id, count, MOST_TRIES, why)


def body_of(job: Job) -> bytes:
    """The news of an end: codes and numbers, nothing of data, settings or paths."""
    seconds = None if job.started_at is None or job.finished_at is None else job.finished_at - job.started_at
    told = {"id": job.id, "name": job.name, "state": str(job.state), "reason": job.reason}
    return json.dumps({**told, "seconds": None if seconds is None else round(seconds, 1)}).encode()


def send(to: Address, body: bytes, *, allow: frozenset[str], timeout_s: float = TIMEOUT_S) -> None:
    """Post the body once.

    Raises:
        NotReached: the receiver may not be reached, or did not answer with a 2xx in time.
    """
    status = post(to, body, allow=allow, timeout_s=timeout_s).status
    if not 200 <= status < 300:
        raise NotReached(f"HTTP {status}")
