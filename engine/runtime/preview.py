"""The preview child: stays warm beside the worker and answers what a page needs of tokenizers, templates and rows.

`python -m engine.runtime.preview`. It takes requests from the store and ends when its lifeline does.
"""

from __future__ import annotations

import logging
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from engine.runtime.desk import SLOW, Desk
from engine.specs.home import Home
from engine.specs.problem import ProblemError, problem
from storage import requests
from storage.database import Store, open_store
from storage.errors import Fenced, StoreError
from storage.requests import Request

log = logging.getLogger(__name__)

BUSY_POLL_S = 0.01
IDLE_POLL_S = 0.1
BUSY_FOR_S = 20.0
RENEW_EVERY_S = 5.0
SWEEP_EVERY_S = 60.0
KEEP_S = 3600.0


class Preview:
    """Takes requests one by one; those that may take seconds go to a second thread, so that the others stay quick.

    What is taken is worked on at once, and renewed as its rows go by: the worker ends a child that stands still.
    """

    def __init__(self, store: Store, desk: Desk) -> None:
        self._store, self._desk = store, desk
        self._news = store.watch()
        self._slow: queue.SimpleQueue[Request] = queue.SimpleQueue()
        self._slow_is_free = threading.Event()
        self._slow_is_free.set()
        self._swept_at = time.monotonic()
        self._slow_worker = threading.Thread(target=self._work_slowly, name="slow", daemon=True)
        self._slow_worker.start()

    def run(self, ended: threading.Event) -> None:
        """Answer until the lifeline ends, or the second thread has died: the worker then starts a new child."""
        busy_until = time.monotonic() + BUSY_FOR_S
        while not ended.is_set() and self._slow_worker.is_alive():
            if self._news.changed() and self.answer_one():
                busy_until = time.monotonic() + BUSY_FOR_S
                continue
            self._sweep()
            ended.wait(BUSY_POLL_S if time.monotonic() < busy_until else IDLE_POLL_S)

    def answer_one(self) -> bool:
        """Take the oldest request and answer it, or hand it on; whether there was one."""
        without = () if self._slow_is_free.is_set() else tuple(SLOW)
        with self._store.read() as session:
            if not requests.waiting(session, without=without):
                return False
        with self._store.write() as session:
            request = requests.take(session, without=without)
        if request is None:
            return False
        if request.kind in SLOW:
            self._slow_is_free.clear()
            self._slow.put(request)
        else:
            self._answer(request)
        return True

    def _work_slowly(self) -> None:
        while True:
            self._answer(self._slow.get())
            self._slow_is_free.set()

    def _answer(self, request: Request) -> None:
        try:
            answer = self._desk.answer(request.kind, request.payload, seen=self._renewal(request))
        except Fenced:
            log.info("request=%d was given up meanwhile", request.id)
        except ProblemError as error:
            self._close(requests.fail, request, [item.as_dict() for item in error.problems])
        except Exception as error:
            log.exception("request=%d kind=%s", request.id, request.kind)
            said = problem("preview_failed", kind=request.kind, error=type(error).__name__)
            self._close(requests.fail, request, [said.as_dict()])
        else:
            self._close(requests.answer, request, answer)

    def _renewal(self, request: Request) -> Callable[[], None]:
        told_at = time.monotonic()

        def seen() -> None:
            nonlocal told_at
            if time.monotonic() - told_at > RENEW_EVERY_S:
                told_at = time.monotonic()
                with self._store.write() as session:
                    requests.renew(session, request.id)

        return seen

    def _close(self, close: Callable[..., None], request: Request, said: Any) -> None:
        try:
            with self._store.write() as session:
                close(session, request.id, said)
        except Fenced:
            log.info("request=%d was given up meanwhile", request.id)

    def _sweep(self) -> None:
        if time.monotonic() - self._swept_at > SWEEP_EVERY_S:
            self._swept_at = time.monotonic()
            with self._store.write() as session:
                requests.sweep(session, older_than_s=KEEP_S)


def watch_lifeline(environment: Mapping[str, str] = os.environ) -> threading.Event:
    """An event that is set when the worker's end of our stdin closes; never, if nobody holds it."""
    ended = threading.Event()

    def watch() -> None:
        while sys.stdin.buffer.read(1):
            continue
        ended.set()

    if environment.get("ATELIER_LIFELINE") == "stdin":
        threading.Thread(target=watch, name="lifeline", daemon=True).start()
    return ended


def main() -> None:
    """Run the child."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    ended = watch_lifeline()
    home = Home.from_environment()
    store = open_store(home.store_url)
    desk = Desk(home, store)
    preview = Preview(store, desk)
    try:
        desk.warm_up()
    except (StoreError, ProblemError, OSError, ValueError) as error:
        log.warning("not warm: %s", error)
    log.info("ready")
    preview.run(ended)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # the library's threads need not be waited for


if __name__ == "__main__":
    main()
