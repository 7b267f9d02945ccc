"""What a job, an attempt and an event look like outside the store, and how its row is changed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, bindparam, func, insert, update
from sqlalchemy.orm import Session

from storage.clock import now
from storage.rows import columns, select_values, table_of, to_value
from storage.states import TRANSITIONS, State
from storage.tables import AttemptRow, EventRow, JobRow

job = table_of(JobRow)
attempt = table_of(AttemptRow)
event_table = table_of(EventRow)


@dataclass(frozen=True, slots=True)
class SubmitOptions:
    """What a submitter may say beyond the spec."""

    idempotency_key: str | None = None
    """The same key gives the same job: a double click makes one."""
    max_attempts: int = 3
    priority: int = 0
    held: bool = False
    run_after: float | None = None
    """Not before this time, in seconds since the epoch."""
    parent_id: int | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """One row of the queue."""

    id: int
    kind: str
    name: str
    lane: str
    spec: dict[str, Any] = field(repr=False)
    spec_version: int
    state: State
    priority: int
    rank: float | None
    held: bool
    run_after: float | None
    attempt: int
    max_attempts: int
    granted: int
    deaths: int
    token: int
    owner: str | None
    owner_host: str | None
    owner_boot: str | None
    pid: int | None
    pid_start: float | None
    lease_until: float | None
    phase: str | None
    progress_step: int | None
    progress_total: int | None
    progress_at: float | None
    cancel_requested_at: float | None
    pause_requested_at: float | None
    stop_requested_at: float | None
    reason: str | None
    message: str | None
    values: dict[str, Any]
    result: dict[str, Any] | None
    parent_id: int | None
    created_at: float
    started_at: float | None
    finished_at: float | None
    notified_at: float | None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try at a job, from claim to end."""

    job_id: int
    attempt: int
    token: int
    host: str
    pid: int | None
    started_at: float
    ended_at: float | None
    exit_code: int | None
    signal: int | None
    outcome: str | None
    resumed_from_step: int | None
    overrides: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a job. Where it moved the job, `data` holds the new `state`."""

    id: int
    job_id: int
    token: int
    at: float
    kind: str
    data: dict[str, Any]


SELECT_JOB = select_values(job, Job)
queue_place = func.coalesce(job.c.rank, job.c.id)
QUEUE_ORDER = (job.c.priority.desc(), queue_place, job.c.id)
"""In which order waiting jobs are claimed."""
ONE_JOB = SELECT_JOB.where(job.c.id == bindparam("id"))


def record(session: Session, job_id: int, *, token: int, kind: str, data: dict[str, Any]) -> None:
    """Appends an event."""
    row = {"job_id": job_id, "token": token, "at": now(), "kind": kind, "data": data}
    session.execute(insert(event_table).values(row))


def change(session: Session, job_id: int, values: dict[str, Any], *where: ColumnElement[bool]) -> Job:
    """Changes a job that the caller has locked."""
    statement = update(job).where(job.c.id == job_id, *where).values(values).returning(*columns(job, Job))
    return to_value(Job, session.execute(statement).one())


def move(session: Session, before: Job, target: State, values: dict[str, Any]) -> Job:
    """Moves a job that the caller has locked along one arrow of the table of states."""
    if target not in TRANSITIONS[before.state]:
        raise ValueError(f"a job cannot go from {before.state} to {target}")
    return change(session, before.id, {"state": target, **values}, job.c.state == before.state)
