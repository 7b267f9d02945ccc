"""A run that hangs is found by the worker's clock, shows its stacks, and fails once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.runtime import worker as worker_module
from engine.runtime.child import Context
from engine.runtime.reporting import Reporter
from engine.runtime.settings import Settings
from engine.runtime.stall import LONGEST_LOOK_S, Pulse
from engine.runtime.worker import Worker
from engine.specs.base import Spec
from engine.specs.kinds import KINDS, JobKind
from storage import jobs
from storage.jobs import Flags
from tests.runtime.test_worker import NoHelpers, home, is_final, job, store, submit, work  # noqa: F401 - fixtures


def moved(step, at):
    return Flags(False, False, False, step, at)


def test_a_step_and_a_beat_end_the_silence_and_a_heartbeat_alone_does_not():
    pulse = Pulse(0.0)
    for now in range(1, 5):
        pulse.look(float(now), moved(1, 10.0))
    assert pulse.silent_s == 3.0, "since the first report"
    pulse.look(5.0, moved(1, 11.0))
    assert pulse.silent_s == 0.0, "a beat without a step"
    pulse.look(6.0, moved(1, 11.0))
    pulse.look(7.0, moved(2, 12.0))
    assert pulse.silent_s == 0.0


def test_what_comes_before_the_first_step_of_an_attempt_may_take_six_times_as_long():
    pulse = Pulse(0.0)
    assert pulse.limit_s(600.0) == 3600.0
    pulse.look(1.0, moved(None, 1.0))
    pulse.look(2.0, moved(35, 2.0))  # where an earlier attempt was
    pulse.look(3.0, moved(30, 3.0))  # where this one goes on
    assert pulse.limit_s(600.0) == 3600.0
    pulse.look(4.0, moved(31, 4.0))
    assert pulse.limit_s(600.0) == 600.0


def test_slow_steps_are_given_the_time_of_twenty():
    pulse = Pulse(0.0)
    for step in range(6):
        pulse.look(100.0 * step, moved(step, float(step)))
    assert pulse.limit_s(600.0) == 2000.0
    assert pulse.limit_s(3000.0) == 3000.0


def test_a_resume_at_an_earlier_step_is_no_pace():
    pulse = Pulse(0.0)
    pulse.look(1.0, moved(50, 1.0))
    pulse.look(500.0, moved(0, 2.0))
    assert pulse.limit_s(1.0) == 6.0, "as before the first step"


def test_a_worker_that_slept_does_not_blame_the_run():
    pulse = Pulse(0.0)
    pulse.look(1.0, moved(1, 1.0))
    pulse.look(100_000.0, moved(1, 1.0))
    assert pulse.silent_s == LONGEST_LOOK_S


@pytest.fixture
def worker(home, store, monkeypatch):  # noqa: F811
    monkeypatch.setitem(KINDS, "train", JobKind(Spec, "tests.fakes.steps", "cpu", resumes=True))
    monkeypatch.setattr(worker_module, "Helpers", NoHelpers)
    one = Worker(home, store, Settings(lease_s=4.0, grace_s=5.0, backoff_s=0.05, poll_s=0.02))
    yield one
    for item in list(one.running.values()):
        item.child.kill()


def be_impatient(worker, store, job_id):  # noqa: F811
    """Wait until it is at its third step, so that a slow start is not taken for a hang; from then on silence is short."""
    work(worker, lambda: job(store, job_id).progress_step == 3, seconds=60)
    worker.settings = replace(worker.settings, stall_s=3.0)


def test_a_run_that_hangs_is_ended_with_its_stacks_in_the_log_and_not_tried_again(worker, store, home):  # noqa: F811
    job_id = submit(store, kind="train", steps=5, hang_at=3)
    be_impatient(worker, store, job_id)
    work(worker, is_final(store, job_id), seconds=40)
    failed = job(store, job_id)
    assert (failed.state, failed.reason, failed.attempt) == ("failed", "stalled", 1)
    assert failed.values["seconds"] >= 3
    log = home.log(job_id).read_text()
    assert "Current thread" in log and "tests/fakes/steps.py" in log and "in _hang" in log


def test_a_run_that_loads_for_longer_than_a_step_may_take_is_left_alone(worker, store):  # noqa: F811
    worker.settings = replace(worker.settings, stall_s=5.0)
    job_id = submit(store, kind="train", steps=5, load_s=8.0)
    work(worker, is_final(store, job_id), seconds=60)
    assert job(store, job_id).state == "succeeded"


def test_a_run_that_hangs_before_its_first_step_is_ended_too(worker, store, home):  # noqa: F811
    worker.settings = replace(worker.settings, stall_s=2.0)
    job_id = submit(store, kind="train", steps=5, load_s=600.0)
    work(worker, is_final(store, job_id), seconds=60)
    failed = job(store, job_id)
    assert (failed.state, failed.reason, failed.values["seconds"] >= 12) == ("failed", "stalled", True)
    assert "in _hang" in home.log(job_id).read_text()


def test_a_long_evaluation_that_beats_is_left_alone(worker, store):  # noqa: F811
    job_id = submit(store, kind="train", steps=5, beat_at=3, beat_s=8.0)
    be_impatient(worker, store, job_id)
    work(worker, is_final(store, job_id), seconds=40)
    assert job(store, job_id).state == "succeeded"


@pytest.mark.slow
def test_only_what_reports_its_steps_is_watched(worker, store):  # noqa: F811
    job_id = submit(store, kind="import", steps=5, hang_at=3, hang_s=6.0)
    be_impatient(worker, store, job_id)
    work(worker, is_final(store, job_id), seconds=40)
    assert job(store, job_id).state == "succeeded"


@pytest.mark.slow
def test_a_run_that_was_asked_to_end_has_its_grace(worker, store):  # noqa: F811
    job_id = submit(store, kind="train", steps=5, hang_at=3, hang_s=30.0)
    be_impatient(worker, store, job_id)
    with store.write() as session:
        jobs.cancel(session, job_id)
    work(worker, is_final(store, job_id), seconds=40)
    assert job(store, job_id).state == "cancelled"


def test_a_beat_of_the_trainer_reaches_the_store(studio):
    job_id, token = studio.claim_job("train", {})
    claim = jobs.Claim(job_id, 1, token)
    reporter = Reporter(Context(studio.home, studio.store, job(studio.store, job_id), claim), lease_s=60.0)
    before = job(studio.store, job_id).progress_at
    reporter.beat()
    reporter.close()
    assert job(studio.store, job_id).progress_at > before
