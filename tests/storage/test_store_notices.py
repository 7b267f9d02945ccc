"""Ends that have to be told, and the checkpoints that may go by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from storage import checkpoints, jobs, notices, retention, workers
from storage.errors import Conflict, NotFound
from storage.jobs import Claim, Settlement
from storage.states import State
from storage.workers import NewWorker

Call = Callable[..., Any]


@pytest.fixture
def ended(running: Claim, write: Call) -> Any:
    return write(jobs.settle, running, Settlement(State.FAILED, reason="killed"))


def test_an_end_is_pending_until_it_was_told(ended: Any, write: Call, read: Call) -> None:
    assert [one.id for one in read(notices.pending)] == [ended.id]
    assert write(notices.told, ended, {}) is True
    assert read(notices.pending) == []
    assert write(notices.told, ended, {}) is False, "a second worker does not tell it twice"
    assert [one.kind for one in read(jobs.events, ended.id)][-1] == "notified"


def test_what_waits_or_runs_is_not_pending(submit: Call, claim: Call, read: Call) -> None:
    submit()
    submit()
    claim()
    assert read(notices.pending) == []


def test_a_retry_between_sending_and_noting_leaves_the_new_end_to_be_told(ended: Any, write: Call, read: Call) -> None:
    write(jobs.retry, ended.id)
    assert write(notices.told, ended, {}) is False
    assert read(jobs.get, ended.id).notified_at is None
    assert "notified" not in [one.kind for one in read(jobs.events, ended.id)]


def test_failures_are_counted_for_this_end_alone(ended: Any, write: Call, read: Call, claim: Call) -> None:
    write(notices.failed, ended, {"error": "timeout", "tries": 1})
    assert read(notices.tries, ended) == 1
    assert read(notices.last).data == {"error": "timeout", "tries": 1}
    write(jobs.retry, ended.id)
    again = write(jobs.settle, claim(), Settlement(State.SUCCEEDED))
    assert read(notices.tries, again) == 0


def test_a_failure_of_a_job_that_was_deleted_is_dropped(ended: Any, write: Call, read: Call) -> None:
    write(jobs.delete, ended.id)
    write(notices.failed, ended, {"error": "timeout", "tries": 1})
    assert read(notices.last) is None


def test_late_ends_are_listed_first_ended_first(store: Any, submit: Call, claim: Call, write: Call, read: Call) -> None:
    for name in ("one", "two", "old"):
        submit(name)
    made = [claim() for _ in range(3)]
    for one in (made[1], made[0], made[2]):
        write(jobs.settle, one, Settlement(State.SUCCEEDED))
    with store.write() as session:
        session.connection().exec_driver_sql("UPDATE job SET finished_at = finished_at - 900 WHERE name = 'old'")
    assert [one.name for one in read(notices.ended, within_s=600)] == ["two", "one"]
    assert [one.name for one in read(notices.ended, within_s=600, limit=1)] == ["one"]


def test_killed_workers_stay_listed_beside_the_living(write: Call, read: Call) -> None:
    one = write(workers.add, NewWorker("h", 1, 1.0, "b"))
    two = write(workers.add, NewWorker("h", 2, 1.0, "b"))
    assert [worker.id for worker in read(workers.listing)] == [one.id, two.id]


# --- checkpoints ---------------------------------------------------------------------------------------------------


@pytest.fixture
def saved(running: Claim, write: Call, new_checkpoint: Call) -> Claim:
    for step, loss in ((10, 0.9), (20, 0.1), (30, 0.8), (40, 0.7)):
        write(checkpoints.add, running, new_checkpoint(step, eval_loss=loss, path=f"/runs/1/1/checkpoint-{step}"))
    return running


def free(read: Call, job_id: int) -> list[int]:
    return [one.step for one in read(retention.removable, job_id)]


def test_nothing_goes_while_the_run_has_not_ended(saved: Claim, write: Call, read: Call) -> None:
    assert free(read, saved.job_id) == []
    write(jobs.settle, saved, Settlement("requeue"))
    assert free(read, saved.job_id) == []


def test_best_last_and_pinned_ones_stay(saved: Claim, write: Call, read: Call) -> None:
    write(jobs.settle, saved, Settlement(State.SUCCEEDED))
    assert free(read, saved.job_id) == [10, 30]
    write(checkpoints.pin, saved.job_id, 30)
    assert free(read, saved.job_id) == [10]
    write(retention.unpin, saved.job_id, 30)
    gone = write(retention.remove, saved.job_id)
    assert [one.step for one in gone] == [10, 30]
    assert [one.step for one in read(checkpoints.listing, saved.job_id)] == [20, 40]


@pytest.mark.parametrize("spec", [{"model": {"start_from": "1@30"}}, {"target": "1@30"}])
def test_one_that_an_open_job_names_stays_until_that_job_has_ended(
    saved: Claim, submit: Call, claim: Call, write: Call, read: Call, spec: dict[str, Any]
) -> None:
    write(jobs.settle, saved, Settlement(State.SUCCEEDED))
    user = submit("user", spec=spec)
    assert free(read, saved.job_id) == [10]
    with pytest.raises(Conflict, match="checkpoint_in_use"):
        write(retention.unpin, saved.job_id, 30)
    write(jobs.cancel, user.id)
    assert free(read, saved.job_id) == [10, 30]


def test_one_that_others_stand_on_stays(
    saved: Claim, submit: Call, claim: Call, write: Call, read: Call, new_checkpoint: Call
) -> None:
    write(jobs.settle, saved, Settlement(State.SUCCEEDED))
    submit("child")
    child = claim()
    write(checkpoints.add, child, new_checkpoint(1, path="/runs/2/1/c", base_path="/runs/1/1/checkpoint-30"))
    write(jobs.settle, child, Settlement(State.SUCCEEDED))
    assert free(read, saved.job_id) == [10]


def test_ids_and_listing_hold_all(saved: Claim, submit: Call, write: Call, read: Call) -> None:
    other = submit()
    assert read(retention.job_ids) == {saved.job_id, other.id}
    assert [one.step for one in read(retention.listing)] == [10, 20, 30, 40]
    assert free(read, 99) == []
    with pytest.raises(NotFound):
        write(retention.remove, 99)


def test_what_open_jobs_will_read_is_known_until_they_end(
    running: Claim, submit: Call, write: Call, read: Call
) -> None:
    reads, ends = submit("reads", spec={"staged": "a"}), submit("ends", spec={"staged": "b"})
    write(jobs.cancel, ends.id)
    assert read(retention.staged_names) == {running.job_id: None, reads.id: "a"}
