"""Who still has to be told that a job has ended, and what became of telling."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from storage.clock import now
from storage.job_values import SELECT_JOB, Event, Job, event_table, job, record
from storage.rows import select_values, to_value, to_values
from storage.states import FINAL, State

WEBHOOK = "webhook"
"""The setting that holds the address; where there is none, nobody is told."""
NOTIFIED = "notified"
NOTIFY_FAILED = "notify_failed"
ENDED = job.c.state.in_(FINAL)


def pending(session: Session, *, limit: int = 20) -> list[Job]:
    """The ended jobs whose end was not told yet, first ended first."""
    untold = SELECT_JOB.where(ENDED, job.c.notified_at.is_(None))
    return to_values(Job, session.execute(untold.order_by(job.c.finished_at, job.c.id).limit(limit)))


def told(session: Session, ended: Job, data: dict[str, Any] | None = None) -> bool:
    """Notes that the end was told; with `data`, as an event. False where the job was retried or told meanwhile."""
    same = (job.c.id == ended.id, job.c.finished_at == ended.finished_at, job.c.notified_at.is_(None))
    changed = session.execute(update(job).where(*same).values(notified_at=now()).returning(job.c.id)).scalar()
    if changed is not None and data is not None:
        record(session, ended.id, token=ended.token, kind=NOTIFIED, data=data)
    return changed is not None


def failed(session: Session, ended: Job, data: dict[str, Any]) -> None:
    """Records that telling did not work."""
    if session.execute(select(job.c.id).where(job.c.id == ended.id)).scalar() is not None:
        record(session, ended.id, token=ended.token, kind=NOTIFY_FAILED, data=data)


def tries(session: Session, ended: Job) -> int:
    """How often telling this end has failed."""
    of_it = (event_table.c.job_id == ended.id, event_table.c.kind == NOTIFY_FAILED)
    since = event_table.c.at >= (ended.finished_at or 0.0)
    return session.execute(select(func.count()).select_from(event_table).where(*of_it, since)).scalar_one()


def last(session: Session) -> Event | None:
    """The last thing that became of telling; None where nobody was told anything yet."""
    kinds = event_table.c.kind.in_((NOTIFIED, NOTIFY_FAILED))
    newest = select_values(event_table, Event).where(kinds).order_by(event_table.c.id.desc()).limit(1)
    row = session.execute(newest).one_or_none()
    return None if row is None else to_value(Event, row)


def ended(session: Session, *, within_s: float, states: Collection[State] = FINAL, limit: int = 50) -> list[Job]:
    """The jobs that ended within the last seconds, first ended first; the latest ones where they are too many."""
    recent = SELECT_JOB.where(job.c.state.in_(states), job.c.finished_at >= now() - within_s)
    rows = to_values(Job, session.execute(recent.order_by(job.c.finished_at.desc(), job.c.id.desc()).limit(limit)))
    return rows[::-1]
