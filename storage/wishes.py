"""What a person asks of a job. None of it touches the holder's columns: a running job learns it from its flags."""

from __future__ import annotations

from typing import Any

from sqlalchemy import delete as delete_from
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from storage import checkpoints, usage
from storage.attempts import NO_REASON
from storage.clock import now
from storage.errors import Conflict, NotFound
from storage.job_values import ONE_JOB, QUEUE_ORDER, Job, change, job, move, queue_place, record
from storage.rows import one_at_a_time, to_value
from storage.states import FINAL, State

KEEPING = frozenset({"train"})
"""The kinds whose half-done work is worth something."""
RESTARTED = "restarted"
"""The event of a retry that begins at step 0."""


def cancel(session: Session, job_id: int) -> Job:
    """Ends a waiting job at once, asks a running one to stop; a job that is cancelled stays so."""
    before = _locked(session, job_id)
    if before.state == State.CANCELLED:
        return before
    if before.state == State.RUNNING:
        return _flag(session, before, column="cancel_requested_at", kind="cancel_requested")
    _must_not_be_final(before)
    values = {
        "finished_at": now(),
        "reason": "cancelled",
        "values": {},
        "held": False,
        "run_after": None,
        "stop_requested_at": None,
    }
    after = move(session, before, State.CANCELLED, values)
    return _recorded(session, after, kind="cancelled")


def pause(session: Session, job_id: int) -> Job:
    """Asks a running job to save and go back to the queue, held; holds a waiting one."""
    before = _locked(session, job_id)
    if before.state == State.RUNNING:
        return _flag(session, before, column="pause_requested_at", kind="pause_requested")
    return hold(session, job_id)


def stop_and_keep(session: Session, job_id: int) -> Job:
    """Asks a training run to save what it has and succeed; one that waits after some attempts is let run for that."""
    before = _locked(session, job_id)
    _must_not_be_final(before)
    if before.kind not in KEEPING:
        raise Conflict("job_not_a_run", {"id": job_id, "kind": before.kind})
    if before.attempt == 0:
        raise Conflict("job_not_started", {"id": job_id})
    if before.state == State.QUEUED:
        change(session, job_id, {"held": False, "run_after": None})
    return _flag(session, before, column="stop_requested_at", kind="stop_requested")


def resume(session: Session, job_id: int) -> Job:
    """Lets a held job run again, and takes back a pause that was asked for."""
    before = _locked(session, job_id)
    _must_not_be_final(before)
    if not before.held and before.pause_requested_at is None:
        return before
    after = change(session, job_id, {"held": False, "pause_requested_at": None})
    return _recorded(session, after, kind="released")


def retry(session: Session, job_id: int, *, from_start: bool = False) -> Job:
    """Queues a failed or cancelled job again, with its whole budget of attempts.

    With `from_start` it begins at step 0: its checkpoints are taken off the list, but for pinned ones, and none is
    resumed. Conflict where another job stands on one of them.
    """
    before = _locked(session, job_id)
    if before.state not in (State.FAILED, State.CANCELLED):
        raise Conflict("job_not_retryable", {"id": job_id, "state": before.state})
    if from_start:
        _must_not_be_stood_on(session, job_id)
        checkpoints.remove_all(session, job_id)
    values: dict[str, Any] = {**NO_REASON, "finished_at": None, "deaths": 0, "granted": job.c.attempt, "result": None}
    values["notified_at"] = None
    after = move(session, before, State.QUEUED, values)
    return _recorded(session, after, kind=RESTARTED if from_start else "retried")


def hold(session: Session, job_id: int) -> Job:
    """Keeps a waiting job from being claimed."""
    before = _locked(session, job_id)
    _must_be(before, State.QUEUED)
    if before.held:
        return before
    after = change(session, job_id, {"held": True})
    return _recorded(session, after, kind="held")


def unhold(session: Session, job_id: int) -> Job:
    """Lets a held job be claimed."""
    before = _locked(session, job_id)
    _must_be(before, State.QUEUED)
    return resume(session, job_id)


def rename(session: Session, job_id: int, name: str) -> Job:
    """Gives the job another name; its spec keeps the one it was submitted with."""
    before = _locked(session, job_id)
    after = change(session, job_id, {"name": name})
    return _recorded(session, after, kind="renamed", data={"before": before.name, "name": name})


def set_priority(session: Session, job_id: int, priority: int) -> Job:
    """Moves a waiting job up or down the queue."""
    _must_be(_locked(session, job_id), State.QUEUED)
    after = change(session, job_id, {"priority": priority})
    return _recorded(session, after, kind="priority_set", data={"priority": priority})


def place_before(session: Session, job_id: int, other_id: int | None) -> Job:
    """Moves a waiting job to the place right before another waiting one of its lane, or to the end of the queue.

    It takes the priority of its neighbour there, and the places of the lane are numbered anew.
    """
    one_at_a_time(session, "places of the queue")
    before = _locked(session, job_id)
    _must_be(before, State.QUEUED)
    if other_id == job_id:
        return before
    queued = (job.c.state == State.QUEUED, job.c.lane == before.lane, job.c.id != job_id)
    rows = session.execute(select(job.c.id, job.c.priority, queue_place).where(*queued).order_by(*QUEUE_ORDER)).all()
    ids = [row.id for row in rows]
    if other_id is not None and other_id not in ids:
        raise Conflict("job_not_queued", {"id": other_id})
    at = len(ids) if other_id is None else ids.index(other_id)
    order = [*ids[:at], job_id, *ids[at:]]
    neighbour = rows[min(at, len(rows) - 1)] if rows else None
    priority = before.priority if neighbour is None else neighbour.priority
    for place, one in enumerate(order, start=1):
        session.execute(update(job).where(job.c.id == one).values(rank=float(place)))
    after = change(session, job_id, {"priority": priority})
    return _recorded(session, after, kind="moved", data={"before": other_id})


def delete(session: Session, job_id: int) -> None:
    """Removes a finished job with its curves, checkpoints, events and attempts; files are the caller's.

    Conflict while a job that has not ended starts from it or exports it, or another's checkpoints stand on its weights.
    """
    before = _locked(session, job_id)
    if before.state not in FINAL:
        raise Conflict("job_not_finished", {"id": job_id, "state": before.state})
    children = (job.c.parent_id == job_id, job.c.state.not_in(FINAL), job.c.kind != "merge")
    user = session.execute(select(job.c.id, job.c.kind).where(*children).limit(1)).one_or_none()
    if user is not None:
        values = {"id": job_id, "by": user.id}
        raise Conflict("job_in_use", values) if user.kind == "train" else Conflict("job_exported", values)
    if (merge := usage.merger_of(session, f"{job_id}@")) is not None:
        raise Conflict("job_merged", {"id": job_id, "by": merge})
    _must_not_be_stood_on(session, job_id)
    session.execute(delete_from(job).where(job.c.id == job_id))


def _locked(session: Session, job_id: int) -> Job:
    row = session.execute(ONE_JOB.with_for_update(), {"id": job_id}).one_or_none()
    if row is None:
        raise NotFound("job", job_id)
    return to_value(Job, row)


def _must_be(before: Job, state: State) -> None:
    if before.state != state:
        raise Conflict(f"job_not_{state}", {"id": before.id, "state": before.state})


def _must_not_be_final(before: Job) -> None:
    if before.state in FINAL:
        raise Conflict("job_finished", {"id": before.id, "state": before.state})


def _must_not_be_stood_on(session: Session, job_id: int) -> None:
    if (trained := checkpoints.user_of(session, job_id)) is not None:
        raise Conflict("job_in_use", {"id": job_id, "by": trained})


def _flag(session: Session, before: Job, *, column: str, kind: str) -> Job:
    """Asks once: a second click neither moves the time nor writes an event."""
    if getattr(before, column) is not None:
        return before
    after = change(session, before.id, {column: func.coalesce(job.c[column], now())})
    return _recorded(session, after, kind=kind)


def _recorded(session: Session, after: Job, *, kind: str, data: dict[str, Any] | None = None) -> Job:
    state: dict[str, Any] = {"state": after.state, "held": after.held}
    record(session, after.id, token=after.token, kind=kind, data={**state, **(data or {})})
    return after
