"""Who holds a job, and the one fence that every write on behalf of an attempt passes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import update
from sqlalchemy.orm import Session

from storage.errors import Fenced
from storage.rows import table_of
from storage.states import State
from storage.tables import JobRow

job = table_of(JobRow)


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to write for one attempt of a job; the token of a later claim ends it."""

    job_id: int
    attempt: int
    token: int


@dataclass(frozen=True, slots=True)
class Holder:
    """The worker that claims: its own name, its host, and the boot of that host."""

    owner: str
    host: str
    boot_id: str


@dataclass(frozen=True, slots=True)
class Flags:
    """What a person asked of a running job, and how far it says it is."""

    cancel: bool
    pause: bool
    stop: bool
    step: int | None = field(default=None, compare=False)
    progress_at: float | None = field(default=None, compare=False)
    """When it last moved, by the database's clock."""


def guard(session: Session, claim: Claim, **changes: Any) -> int:
    """Changes the job row if the claim still holds, else raises Fenced. Returns the row's metric version.

    The row stays locked to the end of the transaction (SQLite: the whole database is), so that what the caller
    writes next in it stands under the same guard: no other claim, settle or rescue can come between.
    """
    statement = (
        update(job)
        .where(job.c.id == claim.job_id, job.c.token == claim.token, job.c.state == State.RUNNING)
        .values(changes or {"token": job.c.token})
        .returning(job.c.metric_version)
    )
    version: int | None = session.execute(statement).scalar()
    if version is None:
        raise Fenced("job", claim.job_id, claim.token)
    return version
