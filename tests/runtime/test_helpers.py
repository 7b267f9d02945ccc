"""Standing children that cannot be started: the worker goes on, nothing half-made stays, and they are tried again."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

from engine.runtime import helpers, process
from engine.specs.home import Home
from storage import messages, processes
from storage.database import Store, open_store
from storage.targets import Target

PAUSE_S = helpers.RESTART_AFTER_S


class Machine:
    """Starts children while it has descriptors; `tried` are the modules that it was asked for."""

    def __init__(self) -> None:
        self.tried: list[str] = []
        self.is_exhausted = True

    def spawn(self, module: str, _arguments: Any, **_: Any) -> Any:
        self.tried.append(module)
        if self.is_exhausted:
            raise OSError(errno.EMFILE, "Too many open files")
        return type("Child", (), {"pid": 1, "ended": lambda _self: None})()


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine()
    monkeypatch.setattr(process, "spawn", made.spawn)
    return made


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(helpers.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path, f"sqlite:///{tmp_path / 'store.db'}").ensure()


@pytest.fixture
def store(home: Home) -> Store:
    return open_store(home.store_url)


def test_a_preview_child_that_cannot_be_started_is_tried_again_after_a_pause(
    home: Home, store: Store, machine: Machine, clock: list[float]
) -> None:
    standing = helpers.Helpers(home, store)
    standing.tick()
    standing.tick()
    assert len(machine.tried) == 1
    machine.is_exhausted, clock[0] = False, clock[0] + PAUSE_S + 0.1
    standing.tick()
    standing.tick()
    assert machine.tried == ["engine.runtime.preview"] * 2


def test_a_chat_that_cannot_be_started_leaves_no_row_and_its_question_waits(
    home: Home, store: Store, machine: Machine, clock: list[float]
) -> None:
    machine.is_exhausted = False
    standing = helpers.Helpers(home, store)
    standing.tick()
    machine.is_exhausted = True
    key = f"{home.root}|none|float32"
    with store.write() as session:
        target = Target("base:x", str(home.root), key, "none", "float32", None, None, None, None)
        (number,) = messages.ask(session, conversation_id=None, text="hello", targets=[target], params={})[1]
    standing.tick()
    standing.tick()
    assert machine.tried.count("engine.runtime.chat") == 1
    with store.read() as session:
        assert processes.listing(session) == []
        assert messages.get(session, number).state == "queued"
    machine.is_exhausted, clock[0] = False, clock[0] + PAUSE_S + 0.1
    standing.tick()
    with store.read() as session:
        assert [one.base_key for one in processes.listing(session)] == [key]
