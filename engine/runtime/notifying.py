"""Telling the end of each job to the webhook: in a thread of the worker, at least once, and never in a job's way."""

from __future__ import annotations

import http.client
import json
import logging
import os
import socket
import ssl
import threading
import time
from collections.abc import Mapping

from sqlalchemy.exc import DBAPIError

from engine.specs import webhook
from engine.specs.problem import ProblemError
from engine.specs.webhook import Webhook
from storage import notices, settings, workers
from storage.database import Store
from storage.errors import StoreError
from storage.jobs import Job

log = logging.getLogger(__name__)

LOOK_EVERY_S = 2.0
TIMEOUT_S = 10.0
MOST_TRIES = 8
"""With a pause of 30 s that doubles, the last one comes about an hour after the first."""


class NotTold(Exception):
    """The receiver did not take it; the message says why, in a few words without the address."""


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
        self._allow = webhook.allowed(environment)
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
            url = settings.get(session, webhook.SETTING)
        for job in waiting:
            if not url:
                with self._store.write() as session:
                    notices.told(session, job)
            elif time.monotonic() >= self._not_before.get(job.id, 0.0):
                self._tell(job, str(url))

    def _tell(self, job: Job, url: str) -> None:
        try:
            send(webhook.check(url, self._allow), body_of(job), allow=self._allow)
        except ProblemError as error:
            self._failed(job, error.problems[0].code)
        except NotTold as error:
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


def send(to: Webhook, body: bytes, *, allow: frozenset[str], timeout_s: float = TIMEOUT_S) -> None:
    """Post the body once, to an address that was checked after its name was looked up; redirects are not followed.

    Raises:
        NotTold: no address of the host may be reached, or the receiver did not answer with a 2xx in time.
    """
    until = time.monotonic() + timeout_s
    try:
        connected = _connected(to, allow, timeout_s)
    except OSError as error:
        raise NotTold(_said(error)) from error
    # A receiver that sends a byte now and then would keep a plain timeout from ever passing: the socket is shut.
    watch = threading.Timer(max(0.1, until - time.monotonic()), _shut, [connected])
    watch.daemon = True
    watch.start()
    try:
        status = _post(connected, to, body)
    except (OSError, http.client.HTTPException) as error:
        raise NotTold(_said(error)) from error
    finally:
        watch.cancel()
        connected.close()
    if not 200 <= status < 300:
        raise NotTold(f"HTTP {status}")


def _connected(to: Webhook, allow: frozenset[str], timeout_s: float) -> socket.socket:
    plain = socket.create_connection((_looked_up(to, allow), to.port), timeout=timeout_s)
    return ssl.create_default_context().wrap_socket(plain, server_hostname=to.host) if to.secure else plain


def _post(connected: socket.socket, to: Webhook, body: bytes) -> int:
    kind = http.client.HTTPSConnection if to.secure else http.client.HTTPConnection
    connection = kind(to.host, to.port)
    connection.sock = connected  # to the very address that was checked: the name is not looked up again
    connection.request("POST", to.path, body, {"Content-Type": "application/json", "User-Agent": "Atelier"})
    return connection.getresponse().status


def _looked_up(to: Webhook, allow: frozenset[str]) -> str:
    found = [str(one[4][0]) for one in socket.getaddrinfo(to.host, to.port, type=socket.SOCK_STREAM)]
    good = next((one for one in found if webhook.may_reach(to.host, one, allow)), None)
    if good is None:
        raise NotTold("private address")
    return good


def _shut(connected: socket.socket) -> None:
    try:
        connected.shutdown(socket.SHUT_RDWR)
    except OSError:
        log.debug("the receiver's connection had ended already")


def _said(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "timeout"
    return str(getattr(error, "strerror", None) or type(error).__name__)
