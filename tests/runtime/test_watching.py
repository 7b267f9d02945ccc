"""The callback in the trainer's loop, step by step: what ends a run, and what it leaves unsaved."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from engine.runtime.watching import Watch
from storage.errors import Fenced
from storage.jobs import Claim, Flags


class Line:
    """A reporter that reaches nobody."""

    def __init__(self) -> None:
        self.flags, self.fenced = Flags(False, False, False), threading.Event()
        self.steps: list[int] = []

    def step(self, step: int, _total: int) -> None:
        self.steps.append(step)


@pytest.fixture
def line() -> Line:
    return Line()


@pytest.fixture
def watch(line: Line) -> Iterator[Watch]:
    before = signal.getsignal(signal.SIGTERM)
    yield Watch(line, claim=Claim(7, 1, 1), device="cpu", total=10)  # type: ignore[arg-type]
    signal.signal(signal.SIGTERM, before)


def end_of(watch: Watch, step: int) -> Any:
    control = SimpleNamespace(should_save=False, should_training_stop=False)
    watch.on_step_end(None, SimpleNamespace(global_step=step), control)
    return control


def test_a_run_whose_claim_is_gone_ends_at_its_next_step_and_saves_nothing(watch: Watch, line: Line) -> None:
    assert end_of(watch, 1).should_training_stop is False
    line.fenced.set()
    line.flags = Flags(False, True, False)  # a pause would save: that is no longer ours to do
    with pytest.raises(Fenced):
        end_of(watch, 2)
    assert watch.wish is None and watch.must_leave()
