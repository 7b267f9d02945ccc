"""Whether a job that is not finished needs a dataset or a model, by the name in its spec."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from storage.job_values import job
from storage.states import FINAL


def user_of(session: Session, *, section: str, key: str, name: str) -> int | None:
    """The id of a job that is not finished and names it at `section.key` of its spec."""
    named = job.c.spec[(section, key)].as_string() == name
    statement = select(job.c.id).where(job.c.state.not_in(FINAL), named).order_by(job.c.id).limit(1)
    return session.execute(statement).scalar()
