"""What an attempt may do, and that a stale one may do nothing."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import update
from sqlalchemy.exc import IntegrityError

from storage import checkpoints, jobs, metrics
from storage.database import Store
from storage.errors import Fenced
from storage.job_values import job as job_table
from storage.job_values import move
from storage.jobs import Claim, Holder, Settlement
from storage.states import State

Call = Callable[..., Any]
LOST = Settlement("requeue", reason="killed", signal=9)
STALE_WRITES: dict[str, Call] = {
    "renew": lambda s, c: jobs.renew(s, c, lease_s=60),
    "flags": jobs.flags,
    "started": lambda s, c: jobs.started(s, c, pid=1, pid_start=1.0),
    "progress": lambda s, c: jobs.progress(s, c, step=99),
    "resumed": lambda s, c: jobs.resumed(s, c, 0),
    "event": lambda s, c: jobs.event(s, c, "ghost", {}),
    "beat": jobs.beat,
    "override": lambda s, c: jobs.override(s, c, {"batch_size": 1}),
    "settle": lambda s, c: jobs.settle(s, c, Settlement(State.SUCCEEDED)),
    "metrics": lambda s, c: metrics.append(s, c, [metrics.Point("loss", 1, 9.0)]),
    "rescue": lambda s, c: jobs.rescue(s, c.job_id, c.token, requeue=True),
}


def test_a_claim_takes_the_job_under_a_lease_and_a_new_token(submit: Call, claim: Call, read: Call) -> None:
    submitted = submit()
    taken = claim(lease_s=30)
    job = read(jobs.get, submitted.id)
    assert taken == Claim(job.id, attempt=1, token=1)
    assert (job.state, job.owner, job.owner_host, job.owner_boot) == (State.RUNNING, "worker-a", "host-a", "boot-a")
    assert job.lease_until == pytest.approx(job.started_at + 30, abs=1)
    (attempt,) = read(jobs.attempts, job.id)
    assert (attempt.token, attempt.host, attempt.ended_at) == (1, "host-a", None)


def test_the_best_job_is_the_urgent_one_and_then_the_oldest(submit: Call, claim: Call) -> None:
    first, second, urgent = submit(), submit(), submit(priority=1)
    assert [claim().job_id for _ in range(3)] == [urgent.id, first.id, second.id]


def test_held_delayed_and_other_lanes_jobs_are_passed_over(submit: Call, write: Call, read: Call, claim: Call) -> None:
    submit(held=True), submit(lane="cpu")
    delayed = submit()
    write(jobs.settle, claim(("gpu",)), Settlement("requeue", run_after_s=3600))
    assert not read(jobs.claimable, lanes=["gpu"])
    assert write(jobs.claim, Holder("w", "h", "b"), lanes=["gpu"], lease_s=60) is None
    assert read(jobs.claimable, lanes=["gpu", "cpu"])
    assert read(jobs.get, delayed.id).run_after > read(jobs.get, delayed.id).created_at + 3000
    assert claim(("cpu",)).job_id == 2


def test_a_delay_that_is_over_no_longer_holds(running: Claim, write: Call, claim: Call) -> None:
    write(jobs.settle, running, Settlement("requeue", run_after_s=-1))
    assert claim() == Claim(running.job_id, attempt=2, token=2)


def test_the_child_process_of_an_attempt_is_written_down(running: Claim, write: Call, read: Call) -> None:
    write(jobs.started, running, pid=4711, pid_start=12.5)
    job = read(jobs.get, running.job_id)
    assert (job.pid, job.pid_start) == (4711, 12.5)
    assert read(jobs.attempts, running.job_id)[0].pid == 4711


def test_renewing_moves_the_lease(running: Claim, write: Call, read: Call) -> None:
    before = read(jobs.get, running.job_id).lease_until
    assert write(jobs.renew, running, lease_s=600) == jobs.Flags(cancel=False, pause=False, stop=False)
    assert read(jobs.get, running.job_id).lease_until > before + 500


def test_only_a_change_counts_as_progress(store: Store, running: Claim, write: Call, read: Call) -> None:
    def set_back() -> None:
        with store.write() as session:
            session.execute(update(job_table).values(progress_at=1.0))

    write(jobs.progress, running, phase="training", step=3, total=10)
    job = read(jobs.get, running.job_id)
    assert (job.phase, job.progress_step, job.progress_total) == ("training", 3, 10)
    set_back()
    write(jobs.progress, running, phase="training", step=3)
    assert read(jobs.get, running.job_id).progress_at == 1.0
    write(jobs.progress, running, step=4)
    assert read(jobs.get, running.job_id).progress_at > 1.0
    set_back()
    write(jobs.progress, running, total=12)
    write(jobs.progress, running)
    job = read(jobs.get, running.job_id)
    assert (job.progress_at, job.progress_step, job.progress_total) == (1.0, 4, 12)


def test_resuming_cuts_the_curves_past_the_step(running: Claim, write: Call, read: Call, claim: Call) -> None:
    write(metrics.append, running, [metrics.Point("loss", step, float(step)) for step in range(1, 9)])
    write(jobs.settle, running, LOST)
    again = claim()
    write(jobs.resumed, again, 5)
    assert [step for step, _ in read(metrics.series, running.job_id)["loss"]] == [1, 2, 3, 4, 5]
    assert read(jobs.attempts, running.job_id)[1].resumed_from_step == 5
    assert read(jobs.events, running.job_id)[-1].data == {"step": 5}
    assert read(jobs.get, running.job_id).progress_step == 5


def test_settling_releases_the_job_and_closes_the_attempt(running: Claim, write: Call, read: Call) -> None:
    write(jobs.started, running, pid=5, pid_start=1.0)
    write(jobs.progress, running, phase="training", step=2)
    ended = Settlement(State.FAILED, reason="crashed", values={"line": 3}, message="Traceback", exit_code=1)
    job = write(jobs.settle, running, ended)
    assert (job.state, job.reason, job.values, job.message) == (State.FAILED, "crashed", {"line": 3}, "Traceback")
    assert (job.owner, job.owner_host, job.owner_boot, job.pid, job.lease_until) == (None,) * 5
    assert (job.phase, job.progress_step) == (None, 2)
    (attempt,) = read(jobs.attempts, job.id)
    assert (attempt.outcome, attempt.exit_code, attempt.signal) == ("failed", 1, None)
    assert attempt.ended_at >= attempt.started_at
    assert read(jobs.events, job.id)[-1].data["state"] == "failed"


def test_a_result_is_kept_with_its_bad_numbers_as_null(running: Claim, write: Call, read: Call) -> None:
    write(jobs.settle, running, Settlement(State.SUCCEEDED, result={"loss": math.nan, "steps": 3}))
    assert read(jobs.get, running.job_id).result == {"loss": None, "steps": 3}


def test_deaths_in_a_row_use_up_the_budget(submit: Call, claim: Call, write: Call) -> None:
    submit(max_attempts=3)
    first, second = write(jobs.settle, claim(), LOST), write(jobs.settle, claim(), LOST)
    assert [(job.state, job.deaths) for job in (first, second)] == [(State.QUEUED, 1), (State.QUEUED, 2)]
    last = write(jobs.settle, claim(), LOST)
    assert (last.state, last.reason, last.deaths, last.attempt) == (State.FAILED, "killed", 3, 3)


def test_a_new_checkpoint_renews_the_budget(submit: Call, claim: Call, write: Call, new_checkpoint: Call) -> None:
    submit(max_attempts=2)
    for step in range(1, 6):
        held = claim()
        write(checkpoints.add, held, new_checkpoint(step))
        job = write(jobs.settle, held, LOST)
        assert (job.state, job.deaths, job.attempt) == (State.QUEUED, 1, step)
    assert write(jobs.settle, claim(), LOST).state == State.FAILED


def test_stops_that_were_asked_for_never_count(submit: Call, claim: Call, write: Call) -> None:
    submit(max_attempts=1)
    for number in range(1, 6):
        job = write(jobs.settle, claim(), Settlement("requeue", reason="paused", exit_code=75, counts=False))
        assert (job.state, job.deaths, job.attempt) == (State.QUEUED, 0, number)
    assert write(jobs.settle, claim(), LOST).state == State.FAILED


def test_a_retry_grants_the_whole_budget_again(submit: Call, claim: Call, write: Call) -> None:
    job_id = submit(max_attempts=1).id
    for _ in range(3):
        assert write(jobs.settle, claim(), LOST).state == State.FAILED
        write(jobs.retry, job_id)


def test_a_requeue_of_a_job_that_was_to_be_cancelled_cancels_it(running: Claim, write: Call) -> None:
    write(jobs.cancel, running.job_id)
    job = write(jobs.settle, running, LOST)
    assert (job.state, job.reason, job.cancel_requested_at) == (State.CANCELLED, "cancelled", None)


def test_a_job_that_finished_before_it_saw_the_cancel_has_succeeded(running: Claim, write: Call) -> None:
    write(jobs.cancel, running.job_id)
    assert write(jobs.settle, running, Settlement(State.SUCCEEDED)).state == State.SUCCEEDED


@pytest.mark.parametrize("name", STALE_WRITES)
def test_a_stale_token_changes_nothing(name: str, running: Claim, claim: Call, write: Call, read: Call) -> None:
    write(jobs.settle, running, LOST)
    newer = claim()
    write(metrics.append, newer, [metrics.Point("loss", 1, 1.0)])
    before = (read(jobs.get, running.job_id), read(jobs.events, running.job_id), read(metrics.series, running.job_id))
    with pytest.raises(Fenced):
        write(STALE_WRITES[name], running)
    after = (read(jobs.get, running.job_id), read(jobs.events, running.job_id), read(metrics.series, running.job_id))
    assert after == before


@pytest.mark.parametrize("name", STALE_WRITES)
def test_nobody_writes_to_a_job_that_is_over(name: str, running: Claim, write: Call, read: Call) -> None:
    before = write(jobs.settle, running, Settlement(State.CANCELLED))
    with pytest.raises(Fenced):
        write(STALE_WRITES[name], running)
    assert read(jobs.get, running.job_id) == before


def test_a_stale_token_lists_no_checkpoint(running: Claim, claim: Call, write: Call, new_checkpoint: Call) -> None:
    write(jobs.settle, running, LOST)
    claim()
    with pytest.raises(Fenced):
        write(checkpoints.add, running, new_checkpoint(1))


def test_a_job_is_expired_once_its_lease_and_the_grace_are_over(
    running: Claim, submit: Call, read: Call, age: Call
) -> None:
    submit()  # one that waits has no lease
    assert read(jobs.expired, grace_s=0) == []
    age(running.job_id, 90)
    assert [job.id for job in read(jobs.expired, grace_s=0)] == [running.job_id]
    assert read(jobs.expired, grace_s=60) == []


def test_a_rescued_job_runs_again_after_its_delay(running: Claim, write: Call, read: Call) -> None:
    job = write(jobs.rescue, running.job_id, running.token, requeue=True, run_after_s=30)
    assert (job.state, job.reason, job.deaths, job.token) == (State.QUEUED, "lost", 1, running.token)
    assert job.run_after > job.created_at
    assert read(jobs.attempts, job.id)[0].outcome == "lost"


def test_a_rescue_without_requeue_fails_the_job(running: Claim, write: Call) -> None:
    job = write(jobs.rescue, running.job_id, running.token, requeue=False)
    assert (job.state, job.reason) == (State.FAILED, "lost")


def test_a_rescue_respects_the_budget_and_the_wish_to_cancel(submit: Call, claim: Call, write: Call) -> None:
    submit(max_attempts=1)
    spent = claim()
    assert write(jobs.rescue, spent.job_id, spent.token, requeue=True).state == State.FAILED
    submit()
    unwanted = claim()
    write(jobs.cancel, unwanted.job_id)
    assert write(jobs.rescue, unwanted.job_id, unwanted.token, requeue=True).state == State.CANCELLED


def test_moves_that_the_table_of_states_lacks_are_refused(running: Claim, write: Call) -> None:
    done = write(jobs.settle, running, Settlement(State.SUCCEEDED))
    with pytest.raises(ValueError, match="from succeeded to queued"):
        write(move, done, State.QUEUED, {})


@pytest.mark.parametrize(
    "values",
    [
        {"state": "lost"},
        {"state": State.RUNNING},
        {"owner": "somebody"},
        {"finished_at": 1.0},
        {"state": State.FAILED},
        {"attempt": 4, "token": 4},
        {"attempt": 1},
        {"lane": "tpu"},
    ],
)
def test_the_database_itself_refuses_impossible_rows(values: dict[str, Any], store: Store, submit: Call) -> None:
    submit(max_attempts=3)
    with pytest.raises(IntegrityError), store.write() as session:
        session.execute(update(job_table).values(values))


def test_the_flags_tell_how_far_it_is_and_a_beat_moves_it(running: Claim, write: Call, read: Call) -> None:
    write(jobs.progress, running, step=3)
    before = read(jobs.flags, running)
    write(jobs.beat, running)
    after = read(jobs.flags, running)
    assert (before.step, after.step) == (3, 3)
    assert after.progress_at > before.progress_at
    write(jobs.progress, running, step=3)
    assert read(jobs.flags, running).progress_at == after.progress_at, "the same step again is no progress"


def test_what_is_written_of_an_attempt_stands_on_it_alone(running: Claim, write: Call, claim: Call, read: Call) -> None:
    write(jobs.started, running, pid=1, pid_start=1.0)
    write(jobs.settle, running, LOST)
    second = claim()
    write(jobs.started, second, pid=2, pid_start=2.0)
    write(jobs.settle, second, Settlement(State.SUCCEEDED, exit_code=0))
    ends = [(one.pid, one.outcome, one.exit_code, one.signal) for one in read(jobs.attempts, running.job_id)]
    assert ends == [(1, "killed", None, 9), (2, "succeeded", 0, None)]


def test_what_an_attempt_does_otherwise_stands_on_it_alone(
    running: Claim, write: Call, claim: Call, read: Call
) -> None:
    write(jobs.override, running, {"batch_size": 2, "gradient_accumulation": 4})
    write(jobs.settle, running, LOST)
    claim()
    first, second = read(jobs.attempts, running.job_id)
    assert (first.overrides, second.overrides) == ({"batch_size": 2, "gradient_accumulation": 4}, None)
    told = [one.data for one in read(jobs.events, running.job_id) if one.kind == "batch_made_smaller"]
    assert told == [{"batch_size": 2, "gradient_accumulation": 4}]
