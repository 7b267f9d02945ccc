"""Jobs: submit and read. What a worker does with them is in `attempts`, what a person asks of them in `wishes`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from storage.attempts import (
    Settlement,
    beat,
    claim,
    claimable,
    event,
    expired,
    flags,
    override,
    progress,
    renew,
    rescue,
    resumed,
    settle,
    started,
    waiting,
)
from storage.claims import Claim, Flags, Holder
from storage.clock import now
from storage.errors import NotFound
from storage.job_values import (
    ONE_JOB,
    QUEUE_ORDER,
    SELECT_JOB,
    Attempt,
    Event,
    Job,
    SubmitOptions,
    attempt,
    event_table,
    job,
    queue_place,
    record,
)
from storage.rows import columns, select_values, to_value, to_values, upsert
from storage.states import State
from storage.wishes import (
    RESTARTED,
    cancel,
    delete,
    hold,
    pause,
    place_before,
    rename,
    resume,
    retry,
    set_priority,
    stop_and_keep,
    unhold,
)

__all__ = [
    "Attempt",
    "Claim",
    "Event",
    "Flags",
    "Holder",
    "Job",
    "Settlement",
    "SubmitOptions",
    "attempts",
    "beat",
    "cancel",
    "claim",
    "claimable",
    "counts",
    "delete",
    "durations",
    "event",
    "events",
    "expired",
    "flags",
    "get",
    "hold",
    "listing",
    "override",
    "pause",
    "place_before",
    "progress",
    "queue",
    "queue_position",
    "rename",
    "renew",
    "rescue",
    "restarted_after",
    "resume",
    "resumed",
    "retry",
    "set_priority",
    "settle",
    "started",
    "stop_and_keep",
    "submit",
    "unhold",
    "waiting",
]

DEFAULTS = SubmitOptions()


def submit(
    session: Session, *, kind: str, name: str, spec: dict[str, Any], lane: str, options: SubmitOptions = DEFAULTS
) -> Job:
    """Queues a job; the same idempotency key gives the job that is there already."""
    values = {
        "kind": kind,
        "name": name,
        "spec": spec,
        "spec_version": spec.get("schema_version", 1),
        "lane": lane,
        "state": State.QUEUED,
        "idempotency_key": options.idempotency_key,
        "max_attempts": options.max_attempts,
        "priority": options.priority,
        "held": options.held,
        "run_after": options.run_after,
        "parent_id": options.parent_id,
        "created_at": now(),
    }
    statement = upsert(session, job).values(values).on_conflict_do_nothing(index_elements=["idempotency_key"])
    row = session.execute(statement.returning(*columns(job, Job))).one_or_none()
    if row is None:
        known = session.execute(SELECT_JOB.where(job.c.idempotency_key == options.idempotency_key))
        return to_value(Job, known.one())
    made = to_value(Job, row)
    record(session, made.id, token=0, kind="submitted", data={"state": State.QUEUED, "held": made.held})
    return made


def get(session: Session, job_id: int) -> Job:
    """The job; NotFound where there is none."""
    row = session.execute(ONE_JOB, {"id": job_id}).one_or_none()
    if row is None:
        raise NotFound("job", job_id)
    return to_value(Job, row)


def listing(
    session: Session, *, kinds: Sequence[str] | None = None, states: Sequence[State] | None = None, limit: int = 200
) -> list[Job]:
    """Jobs, newest first."""
    statement = SELECT_JOB.order_by(job.c.id.desc()).limit(limit)
    if kinds is not None:
        statement = statement.where(job.c.kind.in_(kinds))
    if states is not None:
        statement = statement.where(job.c.state.in_(states))
    return to_values(Job, session.execute(statement))


def durations(session: Session, *, kind: str, limit: int) -> list[float]:
    """The seconds from begin to end of the last jobs of a kind that succeeded, newest first."""
    done = (job.c.kind == kind, job.c.state == State.SUCCEEDED)
    seconds = select(job.c.finished_at - job.c.started_at).where(*done).order_by(job.c.id.desc()).limit(limit)
    return list(session.execute(seconds).scalars())


def counts(session: Session) -> dict[State, int]:
    """How many jobs stand in each state."""
    rows = session.execute(select(job.c.state, func.count()).group_by(job.c.state))
    return {**dict.fromkeys(State, 0), **dict(rows.tuples().all())}


def queue_position(session: Session, job_id: int) -> int | None:
    """1 for the next of its lane; None when it is not waiting for its turn."""
    here = get(session, job_id)
    if here.state != State.QUEUED or here.held:
        return None
    place = here.id if here.rank is None else here.rank
    before = or_(queue_place < place, (queue_place == place) & (job.c.id < job_id))
    ahead = or_(job.c.priority > here.priority, (job.c.priority == here.priority) & before)
    queued = (job.c.state == State.QUEUED) & job.c.held.is_(False) & (job.c.lane == here.lane)
    return 1 + (session.execute(select(func.count()).where(queued, ahead)).scalar() or 0)


def queue(session: Session) -> list[Job]:
    """The waiting jobs in the order in which they will be claimed, the held ones among them at their place."""
    return to_values(Job, session.execute(SELECT_JOB.where(job.c.state == State.QUEUED).order_by(*QUEUE_ORDER)))


def restarted_after(session: Session, job_id: int) -> int:
    """The token of the last attempt before a person let the job begin anew; what is older is not resumed. 0: never."""
    restarts = (event_table.c.job_id == job_id, event_table.c.kind == RESTARTED)
    return session.execute(select(func.max(event_table.c.token)).where(*restarts)).scalar() or 0


def events(session: Session, job_id: int, *, after_id: int = 0, limit: int = 500) -> list[Event]:
    """The events after `after_id`, oldest first."""
    statement = select_values(event_table, Event).where(event_table.c.job_id == job_id, event_table.c.id > after_id)
    return to_values(Event, session.execute(statement.order_by(event_table.c.id).limit(limit)))


def attempts(session: Session, job_id: int) -> list[Attempt]:
    """The attempts, first to last."""
    statement = select_values(attempt, Attempt).where(attempt.c.job_id == job_id).order_by(attempt.c.token)
    return to_values(Attempt, session.execute(statement))
