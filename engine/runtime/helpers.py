"""The worker's standing children: the preview child, and one chat process for each base that is asked for."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from sqlalchemy.exc import DBAPIError

from engine.runtime import fitting, process
from engine.runtime.fitting import Here
from engine.runtime.machine import host
from engine.runtime.process import Child
from engine.specs.home import Home
from engine.specs.living import is_alive
from engine.specs.problem import problem
from storage import answers, processes, requests
from storage.database import Store

log = logging.getLogger(__name__)

RESTART_AFTER_S = 5.0
STANDS_STILL_S = 120.0
"""A chat template that a long row drives round in circles never comes back: its child is ended after this long."""
LOOK_EVERY_S = 2.0


class Helpers:
    """Keeps them alive while they are needed."""

    def __init__(self, home: Home, store: Store) -> None:
        self._home, self._store, self._here = home, store, Here.of(home)
        self._preview: Child | None = None
        self._preview_ended_at = -RESTART_AFTER_S
        self._preview_began_at = self._preview_looked_at = 0.0
        self._rests_until = 0.0
        """No child is started before: for the last one no process or descriptor was left."""
        self._chats: dict[int, Child] = {}
        self._bases: dict[int, str] = {}
        self._write_off_the_dead()

    def tick(self) -> None:
        """Start what is asked for, bury what has ended."""
        self._keep_preview()
        self._bury_chats()
        if time.monotonic() < self._rests_until:
            return
        with self._store.read() as session:
            served = processes.serving(session) | set(self._bases.values())
            wanted = [key for key in answers.waiting_bases(session) if key not in served]
            loadable = fitting.loadable(session, self._here, wanted) if wanted else []
        for base_key in loadable:
            self._start_chat(base_key)

    def is_busy(self) -> bool:
        """Whether a chat may be asked for soon: then the worker looks more often."""
        return bool(self._chats)

    def close(self) -> None:
        """End them all; answers that were being written are marked."""
        children = self._children()
        for child in children:
            child.ask_to_end()
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and any(child.ended() is None for child in children):
            time.sleep(0.05)
        self.kill()
        try:
            self._bury_chats()
        except DBAPIError as error:  # whoever serves the home next marks them
            log.warning("store not reached: %s", error)

    def kill(self) -> None:
        """End what still lives at once, without the store."""
        for child in self._children():
            if child.ended() is None:
                child.kill()

    def _children(self) -> list[Child]:
        return [*self._chats.values(), *([self._preview] if self._preview else [])]

    def _keep_preview(self) -> None:
        self._end_preview_that_stands_still()
        if self._preview is not None and self._preview.ended() is not None:
            log.warning("preview child ended code=%s", self._preview.process.returncode)
            self._preview, self._preview_ended_at = None, time.monotonic()
            with self._store.write() as session:
                died: dict[str, object] = {"code": "preview_died", "field": None, "line": None, "values": {}}
                requests.fail_taken(session, [died], taken_by=self._here.host)
        now = time.monotonic()
        if self._preview is None and now >= max(self._preview_ended_at + RESTART_AFTER_S, self._rests_until):
            self._preview, self._preview_began_at = self._spawn("preview", []), now

    def _spawn(self, name: str, arguments: Sequence[str]) -> Child | None:
        """Start a child; None where that cannot be done now."""
        try:
            return process.spawn(f"engine.runtime.{name}", arguments, log=self._home.logs / f"{name}.log")
        except OSError as error:
            log.error("not started %s: %s", name, error)
            self._rests_until = time.monotonic() + RESTART_AFTER_S
            return None

    def _end_preview_that_stands_still(self) -> None:
        now = time.monotonic()
        if now - self._preview_looked_at < LOOK_EVERY_S:
            return
        self._preview_looked_at = now
        said = problem("preview_stood_still", seconds=round(STANDS_STILL_S)).as_dict()
        with self._store.write() as session:
            given_up = requests.fail_overdue(session, [said], older_than_s=STANDS_STILL_S, taken_by=self._here.host)
            requests.fail_overdue(session, [said], older_than_s=2 * STANDS_STILL_S)  # a host that vanished with them
            lost = [one for one in processes.lost(session) if one.id not in self._chats]
        for one in lost:
            log.warning("chat process=%d of host=%s was not seen for long", one.id, one.host)
            self._write_off(one.id, at_fault=False)
        if given_up and self._preview is not None and now - self._preview_began_at > STANDS_STILL_S:
            log.warning("preview child stands still requests=%s", given_up)
            self._preview.kill()

    def _start_chat(self, base_key: str) -> None:
        with self._store.write() as session:
            row = processes.add_first(session, base_key=base_key, host=host(), pid=0, pid_start=None)
        if row is None:  # another host was first
            return
        child = self._spawn("chat", [str(row.id), base_key])
        if child is None:
            self._write_off(row.id, at_fault=False)
            return
        self._chats[row.id], self._bases[row.id] = child, base_key
        log.info("chat process=%d pid=%d base=%s", row.id, child.pid, base_key)

    def _bury_chats(self) -> None:
        for process_id, child in list(self._chats.items()):
            if child.ended() is not None:
                self._write_off(process_id)
                del self._chats[process_id], self._bases[process_id]

    def _write_off(self, process_id: int, *, at_fault: bool = True) -> None:
        with self._store.write() as session:
            ended = processes.get(session, process_id)
            if at_fault and ended.state == "loading":  # it died of loading: to start it again would only repeat that
                answers.fail_waiting(session, ended.base_key, reason="chat_died", values={})
            answers.fail_of_dead(session, process_id, "chat_died")
            processes.gone(session, process_id)

    def _write_off_the_dead(self) -> None:
        """What an earlier worker left behind."""
        with self._store.read() as session:
            listed = processes.listing(session)
        for one in listed:
            if one.host == host() and not is_alive(one.pid or None, one.pid_start):
                self._write_off(one.id)
