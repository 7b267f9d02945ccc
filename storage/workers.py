"""Workers: one row for each that lives, so that the pages can say who would do the work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from sqlalchemy import delete, insert, update
from sqlalchemy.orm import Session

from storage.clock import now
from storage.errors import Fenced
from storage.rows import columns, select_values, table_of, to_value, to_values
from storage.tables import WorkerRow

worker = table_of(WorkerRow)

SEEN_WITHIN_S = 15.0
"""A worker that was not seen for longer counts as gone."""


@dataclass(frozen=True, slots=True)
class NewWorker:
    """A worker that has just started."""

    host: str
    pid: int
    pid_start: float | None
    boot_id: str
    devices: list[dict[str, Any]] = field(default_factory=list)
    lanes: list[str] = field(default_factory=lambda: ["gpu", "cpu"])


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker and when it was last seen."""

    id: int
    host: str
    pid: int
    pid_start: float | None
    boot_id: str
    devices: list[dict[str, Any]]
    lanes: list[str]
    waits_for: str | None
    cannot: dict[str, str] | None
    started_at: float
    seen_at: float


def add(session: Session, new: NewWorker) -> Worker:
    """Lists a worker."""
    statement = insert(worker).values(**asdict(new), started_at=now(), seen_at=now())
    return to_value(Worker, session.execute(statement.returning(*columns(worker, Worker))).one())


def seen(
    session: Session, worker_id: int, *, waits_for: str | None = None, cannot: Mapping[str, str] | None = None
) -> None:
    """Notes that the worker lives, and what its jobs wait for; Fenced when its row was taken away."""
    values = {"seen_at": now(), "waits_for": waits_for, "cannot": dict(cannot) if cannot else None}
    statement = update(worker).where(worker.c.id == worker_id).values(values).returning(worker.c.id)
    if session.execute(statement).scalar() is None:
        raise Fenced("worker", worker_id, worker_id)


def gone(session: Session, worker_id: int) -> None:
    """Takes the worker off the list."""
    session.execute(delete(worker).where(worker.c.id == worker_id))


def live(session: Session, *, within_s: float = SEEN_WITHIN_S) -> list[Worker]:
    """The workers seen within the last seconds, first started first."""
    recent = worker.c.seen_at >= now() - within_s
    return to_values(Worker, session.execute(select_values(worker, Worker).where(recent).order_by(worker.c.id)))


def listing(session: Session) -> list[Worker]:
    """All workers that are listed, also those that were killed and are not forgotten yet, first started first."""
    return to_values(Worker, session.execute(select_values(worker, Worker).order_by(worker.c.id)))


def sweep(session: Session, *, older_than_s: float) -> None:
    """Forgets workers that were killed and have not been seen since."""
    session.execute(delete(worker).where(worker.c.seen_at < now() - older_than_s))
