"""The worker with real child processes that count steps."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from engine.runtime import checkpoints
from engine.runtime import worker as worker_module
from engine.runtime.settings import Settings
from engine.runtime.worker import Worker
from engine.specs.base import Spec
from engine.specs.home import Home
from engine.specs.kinds import KINDS, JobKind
from engine.specs.living import is_alive
from storage import jobs, metrics
from storage.database import open_store
from tests.fakes.no_helpers import NoHelpers

FAST = Settings(lease_s=4.0, grace_s=5.0, backoff_s=0.05, poll_s=0.02)


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("ATELIER_HOME", str(tmp_path))
    for kind in ("import", "train"):
        monkeypatch.setitem(KINDS, kind, JobKind(Spec, "tests.fakes.steps", "cpu"))
    monkeypatch.setattr(worker_module, "Helpers", NoHelpers)
    return Home.from_environment().ensure()


@pytest.fixture
def store(home):
    found = open_store(home.store_url)
    yield found
    found.dispose()


@pytest.fixture
def worker(home, store):
    one = Worker(home, store, FAST)
    yield one
    for item in list(one.running.values()):
        item.child.kill()


def submit(store, *, kind="import", **spec):
    with store.write() as session:
        return jobs.submit(session, kind=kind, name="count", spec={"steps": 5, **spec}, lane="cpu").id


def job(store, job_id):
    with store.read() as session:
        return jobs.get(session, job_id)


def work(worker, until, seconds=30):
    deadline = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < deadline, "not reached in time"
        worker.tick()
        time.sleep(0.02)


def is_final(store, job_id):
    return lambda: job(store, job_id).state not in ("queued", "running")


def test_a_job_runs_in_a_child_and_succeeds_with_its_result(worker, store):
    job_id = submit(store)
    work(worker, is_final(store, job_id))
    done = job(store, job_id)
    assert (done.state, done.reason, done.result) == ("succeeded", "done", {"steps": 5})


def test_a_killed_child_is_tried_again_and_goes_on_by_itself(worker, store):
    job_id = submit(store, kill_at=3)
    work(worker, is_final(store, job_id))
    with store.read() as session:
        attempts = jobs.attempts(session, job_id)
        curve = metrics.series(session, job_id)["loss"]
    assert job(store, job_id).state == "succeeded"
    assert [(one.outcome, one.signal) for one in attempts] == [("killed", 9), ("succeeded", None)]
    assert [step for step, _ in curve] == [1, 2, 3, 4, 5]


def test_a_problem_fails_the_job_once_with_its_code(worker, store):
    job_id = submit(store, refuse_at=2)
    work(worker, is_final(store, job_id))
    failed = job(store, job_id)
    assert (failed.state, failed.reason, failed.attempt) == ("failed", "data_not_there", 1)


def test_a_crash_keeps_its_last_lines_without_secrets(worker, store):
    job_id = submit(store, crash_at=2)
    work(worker, is_final(store, job_id))
    failed = job(store, job_id)
    assert failed.reason == "internal_error"
    assert "RuntimeError: with a token: [redacted]" in failed.message


def test_a_worker_without_descriptors_at_the_end_of_a_job_goes_on_and_settles_it_later(worker, store, monkeypatch):
    sweep, tries = checkpoints.sweep_attempt, []

    def exhausted(folder):
        tries.append(folder)
        if len(tries) < 3:
            raise OSError(errno.EMFILE, "Too many open files")
        sweep(folder)

    monkeypatch.setattr(checkpoints, "sweep_attempt", exhausted)
    ended, other = submit(store), submit(store, kind="train", steps=500)
    worker.run(until_job=ended)
    assert (job(store, ended).state, len(tries) >= 3) == ("succeeded", True)
    assert job(store, other).token == 1, "meanwhile the other child was looked after"


def test_a_worker_that_ends_with_a_job_begins_no_other_one_after_it(worker, store):
    first, _beside, waits = (submit(store, steps=steps) for steps in (3, 500, 3))
    worker.run(until_job=first)
    assert (job(store, first).state, job(store, waits).token) == ("succeeded", 0)


def test_cancel_pause_and_stop_end_a_run_each_in_its_way(worker, store):
    ids = {wish: submit(store, kind="train", steps=2000) for wish in ("cancel", "pause")}
    work(worker, lambda: all((job(store, one).progress_step or 0) > 3 for one in ids.values()))
    with store.write() as session:
        jobs.cancel(session, ids["cancel"])
        jobs.pause(session, ids["pause"])
    work(worker, lambda: is_final(store, ids["cancel"])() and job(store, ids["pause"]).held)
    assert job(store, ids["cancel"]).state == "cancelled"
    assert job(store, ids["pause"]).state == "queued"
    with store.write() as session:
        jobs.resume(session, ids["pause"])
    work(
        worker,
        lambda: job(store, ids["pause"]).state == "running" and (job(store, ids["pause"]).progress_step or 0) > 10,
    )
    with store.write() as session:
        jobs.stop_and_keep(session, ids["pause"])
    work(worker, is_final(store, ids["pause"]))
    assert (job(store, ids["pause"]).state, job(store, ids["pause"]).reason) == ("succeeded", "stopped_at_step")


def test_a_paused_import_is_held_after_one_attempt_and_goes_on_when_resumed(worker, store):
    job_id = submit(store, steps=60)
    work(worker, lambda: (job(store, job_id).progress_step or 0) > 3)
    with store.write() as session:
        jobs.pause(session, job_id)
    work(worker, lambda: job(store, job_id).state == "queued")
    for _ in range(5):
        worker.tick()
    assert (job(store, job_id).held, job(store, job_id).attempt) == (True, 1)
    with store.write() as session:
        jobs.resume(session, job_id)
    work(worker, is_final(store, job_id))
    assert job(store, job_id).state == "succeeded"


def test_a_lane_takes_no_more_than_its_room(worker, store):
    for _ in range(4):
        submit(store, steps=200)
    work(worker, lambda: len(worker.running) == 2)
    for _ in range(5):
        worker.tick()
    assert len(worker.running) == 2


def test_a_killed_worker_is_succeeded_by_the_next_and_the_job_goes_on(home, store, monkeypatch):
    monkeypatch.setenv("ATELIER_BACKOFF_S", "0.05")
    job_id = submit(store, steps=400)
    first = subprocess.Popen([sys.executable, "-c", RUN_A_WORKER], cwd=Path(worker_module.__file__).parents[2])
    deadline = time.monotonic() + 20
    while (job(store, job_id).progress_step or 0) < 5:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    orphan = job(store, job_id)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    second = Worker(home, store, FAST)
    work(second, is_final(store, job_id))
    assert job(store, job_id).state == "succeeded"
    assert not is_alive(orphan.pid, orphan.pid_start)
    with store.read() as session:
        assert [one.outcome for one in jobs.attempts(session, job_id)] == ["lost", "succeeded"]


RUN_A_WORKER = """
from engine.runtime import worker
from engine.specs.base import Spec
from engine.specs.kinds import KINDS, JobKind
from tests.fakes.no_helpers import NoHelpers
KINDS["import"] = JobKind(Spec, "tests.fakes.steps", "cpu")
worker.Helpers = NoHelpers
worker.main()
"""
