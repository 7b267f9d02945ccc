"""A full disk pauses a run; room on the disk lets it go on by itself."""

from __future__ import annotations

import dataclasses
from collections import namedtuple

import pytest

from engine.runtime import space
from engine.runtime.worker import Worker
from engine.specs.base import Spec
from engine.specs.home import Home
from engine.specs.kinds import KINDS, JobKind
from storage import jobs
from tests.runtime.test_worker import FAST, home, is_final, job, store, submit, work  # noqa: F401 - fixtures

Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def free(monkeypatch):
    """Sets how many bytes the disk has free."""

    def set_free(num_bytes):
        monkeypatch.setattr(space.shutil, "disk_usage", lambda _: Usage(10**12, 0, num_bytes))

    return set_free


def waiting_job(reason, values):
    fields = dict.fromkeys((one.name for one in dataclasses.fields(jobs.Job)), None)
    return jobs.Job(**{**fields, "id": 1, "reason": reason, "values": values})


def test_only_a_run_that_met_a_full_disk_waits_for_room(tmp_path, free):
    here = Home(tmp_path, "").ensure()
    free(100)
    assert space.has_space(here, waiting_job(None, {}))
    assert space.has_space(here, waiting_job("lost", {"needed_bytes": 101}))
    assert not space.has_space(here, waiting_job("disk_full", {"needed_bytes": 101}))
    assert space.has_space(here, waiting_job("disk_full", {"needed_bytes": 100}))


def test_the_need_is_what_the_run_said_else_its_last_save_else_a_little(tmp_path, free):
    here = Home(tmp_path, "").ensure()
    free(5)
    assert space.shortage(here, 1, {"needed_bytes": 10**9}) == {"needed_bytes": 10**9, "free_bytes": 5}
    assert space.shortage(here, 1, {})["needed_bytes"] == space.LEAST_BYTES
    saved = here.runs / "1" / "1" / "checkpoint-3"
    saved.mkdir(parents=True)
    with (saved / "weights").open("wb") as file:
        file.truncate(10**9)
    assert space.shortage(here, 1, {})["needed_bytes"] == int(1.2 * 10**9)


def test_the_attempts_in_a_row_that_met_a_full_disk_are_counted():
    full, lost = (jobs.Attempt(1, 1, 1, "host", 1, 0.0, 1.0, None, None, why, 0, None) for why in ("disk_full", "lost"))
    histories = [[], [full], [lost, full, full], [full, lost], [full] * 50]
    assert [space.times_full(one) for one in histories] == [0, 1, 2, 0, 50]


@pytest.fixture
def worker(home, store, monkeypatch):  # noqa: F811
    monkeypatch.setitem(KINDS, "train", JobKind(Spec, "tests.fakes.steps", "cpu", resumes=True))
    one = Worker(home, store, FAST)
    yield one
    for item in list(one.running.values()):
        item.child.kill()


def test_a_full_disk_pauses_a_run_and_room_lets_it_go_on_by_itself(worker, store, free):  # noqa: F811
    free(1000)
    job_id = submit(store, kind="train", steps=8, full_at=4, needed_bytes=2_000_000)
    work(worker, lambda: job(store, job_id).reason == "disk_full")
    paused = job(store, job_id)
    assert (paused.state, paused.held, paused.values) == (
        "queued",
        False,
        {"needed_bytes": 2_000_000, "free_bytes": 1000},
    )
    assert paused.granted == 1, "it costs no attempt"
    other = submit(store, kind="train", steps=3)
    work(worker, is_final(store, other))
    assert job(store, other).state == "succeeded", "who does not wait for room goes ahead"
    assert job(store, job_id).state == "queued"
    free(3_000_000)
    work(worker, is_final(store, job_id))
    with store.read() as session:
        assert [one.outcome for one in jobs.attempts(session, job_id)] == ["disk_full", "succeeded"]


def test_a_full_disk_fails_what_cannot_go_on(worker, store, free):  # noqa: F811
    free(1000)
    job_id = submit(store, kind="import", steps=8, full_at=4, needed_bytes=2_000_000)
    work(worker, is_final(store, job_id))
    assert (job(store, job_id).state, job(store, job_id).reason) == ("failed", "disk_full")
