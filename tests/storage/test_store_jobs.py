"""Jobs: submitting, reading, and what a person asks of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from storage import checkpoints, jobs, metrics
from storage.errors import Conflict, NotFound
from storage.job_values import job as job_table
from storage.jobs import Claim, Job, Settlement
from storage.states import State

Call = Callable[..., Any]


def test_a_submitted_job_waits_with_its_spec(submit: Call, read: Call) -> None:
    job = submit("support", spec={"schema_version": 4, "seed": 7}, priority=2)
    assert (job.state, job.spec, job.spec_version) == (State.QUEUED, {"schema_version": 4, "seed": 7}, 4)
    assert (job.attempt, job.token, job.deaths, job.priority) == (0, 0, 0, 2)
    assert read(jobs.get, job.id) == job
    assert [event.kind for event in read(jobs.events, job.id)] == ["submitted"]


def test_a_double_click_makes_one_job(submit: Call, read: Call) -> None:
    first = submit("one", idempotency_key="click")
    again = submit("two", idempotency_key="click")
    assert again == first
    assert len(read(jobs.listing)) == 1
    assert len(read(jobs.events, first.id)) == 1


def test_jobs_without_a_key_are_all_kept(submit: Call) -> None:
    assert submit().id != submit().id


def test_an_unknown_job_is_not_found(read: Call, write: Call) -> None:
    with pytest.raises(NotFound, match="no job 77"):
        read(jobs.get, 77)
    with pytest.raises(NotFound):
        write(jobs.cancel, 77)


def test_the_listing_is_newest_first(submit: Call, read: Call, claim: Call) -> None:
    ids = [submit(f"run {number}").id for number in range(5)]
    claim()
    assert [job.id for job in read(jobs.listing, limit=2)] == ids[:2:-1]
    assert [job.id for job in read(jobs.listing, states=[State.RUNNING])] == [ids[0]]
    assert read(jobs.listing, kinds=["export"]) == []
    assert len(read(jobs.listing, kinds=["train", "export"])) == 5


def test_a_job_for_later_is_not_claimed_before_its_time(submit: Call, read: Call, claim: Call) -> None:
    later = submit(run_after=time.time() + 3600)
    assert not read(jobs.claimable, lanes=["gpu"])
    assert read(jobs.get, later.id).run_after == later.run_after
    due = submit(run_after=time.time() - 1)
    assert claim().job_id == due.id


def test_the_durations_of_a_kind_are_those_of_its_last_successes(
    submit: Call, write: Call, read: Call, claim: Call
) -> None:
    ids = [submit().id for _ in range(4)]
    ends = (State.SUCCEEDED, State.FAILED, State.SUCCEEDED, State.SUCCEEDED)
    for job_id, end in zip(ids, ends, strict=True):
        write(jobs.settle, claim(), Settlement(end, reason="done"))
        write(lambda session, one=job_id: session.execute(
            job_table.update().where(job_table.c.id == one).values(started_at=1000.0, finished_at=1000.0 + one)
        ))  # fmt: skip
    assert read(jobs.durations, kind="train", limit=2) == [ids[3], ids[2]]
    assert read(jobs.durations, kind="train", limit=9) == [ids[3], ids[2], ids[0]]
    assert read(jobs.durations, kind="export", limit=9) == []


def test_each_state_is_counted_also_when_empty(submit: Call, read: Call, claim: Call) -> None:
    submit(), submit(), claim()
    counted = {State.QUEUED: 1, State.RUNNING: 1, State.SUCCEEDED: 0, State.FAILED: 0, State.CANCELLED: 0}
    assert read(jobs.counts) == counted


def test_the_queue_position_counts_those_ahead_in_the_same_lane(submit: Call, read: Call, claim: Call) -> None:
    low, high = submit(), submit(priority=1)
    other, held = submit(lane="cpu"), submit(held=True)
    positions = [read(jobs.queue_position, job.id) for job in (low, high, other, held)]
    assert positions == [2, 1, 1, None]
    claim(("gpu",))
    assert read(jobs.queue_position, high.id) is None
    assert read(jobs.queue_position, low.id) == 1


def test_events_can_be_read_from_where_one_stopped(running: Claim, read: Call, write: Call) -> None:
    first = read(jobs.events, running.job_id)
    write(jobs.event, running, "warned", {"code": "slow"})
    later = read(jobs.events, running.job_id, after_id=first[-1].id)
    assert [event.kind for event in later] == ["warned"]
    assert read(jobs.events, running.job_id, limit=1) == first[:1]


def test_cancelling_a_waiting_job_ends_it_at_once(submit: Call, write: Call) -> None:
    job = write(jobs.cancel, submit(held=True).id)
    assert (job.state, job.reason, job.held) == (State.CANCELLED, "cancelled", False)
    assert job.finished_at >= job.created_at
    assert write(jobs.cancel, job.id) == job


def test_cancelling_a_running_job_sets_a_flag_and_leaves_the_holder(running: Claim, write: Call, read: Call) -> None:
    job = write(jobs.cancel, running.job_id)
    assert (job.state, job.owner) == (State.RUNNING, "worker-a")
    assert read(jobs.flags, running) == jobs.Flags(cancel=True, pause=False, stop=False)
    assert write(jobs.cancel, running.job_id).cancel_requested_at == job.cancel_requested_at
    kinds = [event.kind for event in read(jobs.events, running.job_id)]
    assert kinds.count("cancel_requested") == 1


@pytest.mark.parametrize("ask", [jobs.cancel, jobs.pause, jobs.resume, jobs.stop_and_keep, jobs.hold, jobs.unhold])
def test_nothing_can_be_asked_of_a_job_that_succeeded(ask: Call, running: Claim, write: Call, read: Call) -> None:
    before = write(jobs.settle, running, Settlement(State.SUCCEEDED))
    with pytest.raises(Conflict):
        write(ask, running.job_id)
    assert read(jobs.get, running.job_id) == before


def test_a_paused_job_goes_back_to_the_queue_and_waits_there(running: Claim, write: Call, read: Call) -> None:
    write(jobs.pause, running.job_id)
    assert read(jobs.flags, running).pause
    job = write(jobs.settle, running, Settlement("requeue", reason="paused", counts=False))
    assert (job.state, job.held, job.pause_requested_at, job.reason) == (State.QUEUED, True, None, "paused")
    assert not read(jobs.claimable, lanes=["gpu"])


def test_a_resumed_job_can_be_claimed_again(submit: Call, write: Call, claim: Call) -> None:
    job = write(jobs.pause, submit().id)
    assert job.held
    assert write(jobs.pause, job.id) == job
    assert not write(jobs.resume, job.id).held
    assert claim().job_id == job.id


def test_a_pause_can_be_taken_back_before_it_happens(running: Claim, write: Call, read: Call) -> None:
    write(jobs.pause, running.job_id)
    write(jobs.resume, running.job_id)
    assert not read(jobs.flags, running).pause
    assert not write(jobs.settle, running, Settlement("requeue", counts=False)).held


def test_resuming_a_job_that_is_not_held_changes_nothing(submit: Call, write: Call, read: Call) -> None:
    job = submit()
    assert write(jobs.resume, job.id) == job
    assert len(read(jobs.events, job.id)) == 1


def test_hold_and_unhold_are_for_waiting_jobs(submit: Call, write: Call, claim: Call) -> None:
    job = submit()
    assert write(jobs.hold, job.id).held
    assert not write(jobs.unhold, job.id).held
    claim()
    for ask in (jobs.hold, jobs.unhold):
        with pytest.raises(Conflict, match="job_not_queued"):
            write(ask, job.id)


def test_stop_and_keep_asks_a_running_job(running: Claim, write: Call, read: Call) -> None:
    write(jobs.stop_and_keep, running.job_id)
    assert read(jobs.flags, running) == jobs.Flags(cancel=False, pause=False, stop=True)
    job = write(jobs.settle, running, Settlement(State.SUCCEEDED, reason="stopped_at_step", values={"step": 4}))
    assert (job.state, job.stop_requested_at, job.values) == (State.SUCCEEDED, None, {"step": 4})


def test_stop_and_keep_lets_a_paused_job_run_once_more_to_save(running: Claim, write: Call, claim: Call) -> None:
    write(jobs.settle, running, Settlement("requeue", held=True, counts=False, run_after_s=900))
    write(jobs.stop_and_keep, running.job_id)
    again = claim()
    assert write(jobs.renew, again, lease_s=60).stop


def test_the_wish_to_keep_survives_a_lost_attempt(running: Claim, write: Call, claim: Call) -> None:
    write(jobs.stop_and_keep, running.job_id)
    write(jobs.rescue, running.job_id, running.token, requeue=True)
    assert write(jobs.renew, claim(), lease_s=60).stop


def test_there_is_nothing_to_keep_of_a_job_that_never_ran(submit: Call, write: Call) -> None:
    with pytest.raises(Conflict, match="job_not_started"):
        write(jobs.stop_and_keep, submit().id)


@pytest.mark.parametrize("kind", ["import", "export", "trial", "add_model"])
def test_only_a_training_run_can_be_stopped_and_kept(kind: str, write: Call, claim: Call, read: Call) -> None:
    made = write(jobs.submit, kind=kind, name="x", spec={}, lane="cpu")
    claim()
    with pytest.raises(Conflict, match="job_not_a_run"):
        write(jobs.stop_and_keep, made.id)
    assert read(jobs.get, made.id).stop_requested_at is None


@pytest.mark.parametrize("end", [State.FAILED, State.CANCELLED])
def test_a_failed_or_cancelled_job_can_be_retried_with_a_whole_budget(end: State, running: Claim, write: Call) -> None:
    write(jobs.settle, running, Settlement(end, reason="out_of_memory", message="tail", result={"a": 1}))
    job = write(jobs.retry, running.job_id)
    assert (job.state, job.reason, job.message, job.result) == (State.QUEUED, None, None, None)
    assert (job.deaths, job.granted, job.attempt, job.finished_at) == (0, 1, 1, None)


@pytest.mark.parametrize("end", [None, State.SUCCEEDED])
def test_other_jobs_cannot_be_retried(end: State | None, running: Claim, write: Call) -> None:
    if end is not None:
        write(jobs.settle, running, Settlement(end))
    with pytest.raises(Conflict, match="job_not_retryable"):
        write(jobs.retry, running.job_id)


def test_a_job_can_be_renamed_in_any_state(running: Claim, write: Call, read: Call) -> None:
    assert write(jobs.rename, running.job_id, "<b>support</b>").name == "<b>support</b>"
    last = read(jobs.events, running.job_id)[-1]
    assert (last.data["before"], last.data["name"]) == ("run", "<b>support</b>")


def test_a_waiting_job_can_be_moved_up(submit: Call, write: Call, claim: Call) -> None:
    submit()
    late = submit()
    assert write(jobs.set_priority, late.id, 5).priority == 5
    assert claim().job_id == late.id


def test_only_finished_jobs_can_be_deleted(running: Claim, write: Call) -> None:
    with pytest.raises(Conflict, match="job_not_finished"):
        write(jobs.delete, running.job_id)


def test_deleting_a_job_takes_its_curves_checkpoints_events_and_attempts(
    running: Claim, write: Call, read: Call, new_checkpoint: Call
) -> None:
    write(metrics.append, running, [metrics.Point("loss", 1, 2.0)])
    write(checkpoints.add, running, new_checkpoint(1))
    write(jobs.settle, running, Settlement(State.SUCCEEDED))
    write(jobs.delete, running.job_id)
    with pytest.raises(NotFound):
        read(jobs.get, running.job_id)
    for left in (jobs.events, jobs.attempts, checkpoints.listing):
        assert read(left, running.job_id) == []
    assert read(metrics.series, running.job_id) == {}


def test_a_job_that_a_waiting_one_builds_on_cannot_be_deleted(running: Claim, submit: Call, write: Call) -> None:
    write(jobs.settle, running, Settlement(State.SUCCEEDED))
    child: Job = submit(parent_id=running.job_id)
    with pytest.raises(Conflict, match="job_in_use") as caught:
        write(jobs.delete, running.job_id)
    assert caught.value.values["by"] == child.id
    write(jobs.cancel, child.id)
    write(jobs.delete, running.job_id)
    assert write(jobs.retry, child.id).parent_id is None


def test_an_export_that_keeps_a_run_from_being_deleted_is_named(running: Claim, write: Call) -> None:
    write(jobs.settle, running, Settlement(State.SUCCEEDED))
    parent = jobs.SubmitOptions(parent_id=running.job_id)
    export = write(jobs.submit, kind="export", name="x", spec={}, lane="gpu", options=parent)
    with pytest.raises(Conflict, match="job_exported") as caught:
        write(jobs.delete, running.job_id)
    assert caught.value.values == {"id": running.job_id, "by": export.id}


@pytest.mark.parametrize(
    ("base", "used"),
    [("checkpoint-1", True), ("checkpoint-1/part", True), ("checkpoint-10", False), ("CHECKPOINT-1/part", False)],
)
def test_a_job_on_whose_weights_others_stand_cannot_be_deleted(
    base: str, used: bool, running: Claim, submit: Call, claim: Call, write: Call, new_checkpoint: Call
) -> None:
    write(checkpoints.add, running, new_checkpoint(1, is_adapter=False, base_path="/runs/1/1/checkpoint-1"))
    write(jobs.settle, running, Settlement(State.SUCCEEDED))
    other: Job = submit()
    write(checkpoints.add, claim(), new_checkpoint(5, path="/runs/2/1/checkpoint-5", base_path=f"/runs/1/1/{base}"))
    if used:
        with pytest.raises(Conflict, match="job_in_use") as caught:
            write(jobs.delete, running.job_id)
        assert caught.value.values["by"] == other.id
    else:
        write(jobs.delete, running.job_id)


def test_an_id_is_never_given_twice(submit: Call, write: Call) -> None:
    first = submit()
    write(jobs.cancel, first.id)
    write(jobs.delete, first.id)
    assert submit().id > first.id


def test_a_retry_from_the_start_gives_up_the_checkpoints_but_for_pinned_ones(
    running: Claim, write: Call, read: Call, new_checkpoint: Call
) -> None:
    for step in (10, 20):
        write(checkpoints.add, running, new_checkpoint(step))
    write(checkpoints.pin, running.job_id, 10)
    write(jobs.settle, running, Settlement(State.FAILED, reason="checkpoints_broken"))
    assert read(jobs.restarted_after, running.job_id) == 0
    after = write(jobs.retry, running.job_id, from_start=True)
    assert (after.state, after.reason) == (State.QUEUED, None)
    assert [one.step for one in read(checkpoints.listing, running.job_id)] == [10]
    assert read(jobs.restarted_after, running.job_id) == running.token
    assert read(jobs.events, running.job_id)[-1].kind == "restarted"


def test_a_run_on_whose_weights_others_stand_cannot_begin_anew(
    running: Claim, submit: Call, claim: Call, write: Call, new_checkpoint: Call
) -> None:
    own = new_checkpoint(10, is_adapter=False)
    write(checkpoints.add, running, own)
    write(jobs.settle, running, Settlement(State.FAILED))
    other = submit()
    write(checkpoints.add, claim(), new_checkpoint(5, path="/runs/2/2/checkpoint-5", base_path=own.path))
    with pytest.raises(Conflict) as refused:
        write(jobs.retry, running.job_id, from_start=True)
    assert (refused.value.code, refused.value.values["by"]) == ("job_in_use", other.id)
