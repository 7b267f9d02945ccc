"""Pauses before the next attempt: they grow, they differ, and every way to lose an attempt takes the same."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator

import pytest

from engine.runtime import backoff, rescue
from engine.runtime.machine import boot_id, host
from engine.runtime.outcome import Exit
from engine.runtime.settings import Settings
from engine.runtime.settling import End, settlement_of
from engine.specs.home import Home
from storage import jobs
from storage.database import Store, open_store
from storage.jobs import Claim, Holder, Settlement

SETTINGS = Settings(backoff_s=30.0)


def test_the_pause_doubles_with_each_time_in_a_row_up_to_about_an_hour():
    found = [backoff.pause_s(times, backoff_s=30, draw=lambda: 0.0) for times in (0, 1, 2, 7, 50)]
    assert found == [30, 60, 120, 3840, 3840]


def test_chance_adds_up_to_a_quarter():
    assert backoff.pause_s(1, backoff_s=30, draw=lambda: 1.0) == 75
    draw = random.Random(7).random
    found = [backoff.pause_s(1, backoff_s=30, draw=draw) for _ in range(200)]
    assert 60 <= min(found) < 62 and 73 < max(found) <= 75


@pytest.fixture
def store(tmp_path) -> Iterator[Store]:
    one = open_store(f"sqlite:///{tmp_path / 'store.db'}")
    yield one
    one.dispose()


@pytest.fixture
def paused(monkeypatch) -> list[int]:
    """The times in a row that each pause was asked for; every pause is a thousand seconds."""
    asked: list[int] = []

    def pause_s(times: int, *, backoff_s: float) -> float:
        assert backoff_s == SETTINGS.backoff_s
        asked.append(times)
        return 1000.0

    monkeypatch.setattr(backoff, "pause_s", pause_s)
    return asked


@pytest.mark.parametrize("code", [-9, Exit.FENCED], ids=["killed", "fenced"])
def test_an_attempt_that_was_lost_is_tried_again_after_the_pause(tmp_path, paused, code):
    fields = dict.fromkeys((one.name for one in dataclasses.fields(jobs.Job)), None)
    job = jobs.Job(**{**fields, "id": 1, "kind": "train", "spec": {}, "deaths": 2, "values": {}})
    home = Home(tmp_path, "").ensure()
    found = settlement_of(home, job, Claim(1, 3, 3), End(code), history=(), settings=SETTINGS)
    assert (found.state, found.run_after_s, paused) == ("requeue", 1000.0, [2])


def test_a_job_that_is_rescued_is_tried_again_after_the_pause(tmp_path, store, paused):
    home = Home(tmp_path / "home", "").ensure()
    with store.write() as session:
        made = jobs.submit(session, kind="train", name="lost", spec={}, lane="gpu")
        first = jobs.claim(session, Holder("w", host(), boot_id()), lanes=["gpu"], lease_s=60)
        assert first is not None
        jobs.settle(session, first[0], Settlement("requeue", reason="killed"))
        jobs.claim(session, Holder(f"{host()}:1", host(), "an earlier boot"), lanes=["gpu"], lease_s=60)
    rescue.rescue_lost(store, home, SETTINGS)
    with store.read() as session:
        lost = jobs.get(session, made.id)
        ended = jobs.attempts(session, made.id)[-1].ended_at
    assert (lost.state, lost.deaths, paused) == ("queued", 2, [1])
    assert lost.run_after is not None and ended is not None and lost.run_after - ended == pytest.approx(1000, abs=1)
