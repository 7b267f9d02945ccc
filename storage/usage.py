"""Which jobs need a dataset or a model, by what their specs name."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from storage.job_values import job
from storage.states import FINAL


def user_of(session: Session, *, section: str, key: str, name: str) -> int | None:
    """The id of a job that is not finished and names it at `section.key` of its spec."""
    named = job.c.spec[(section, key)].as_string() == name
    statement = select(job.c.id).where(job.c.state.not_in(FINAL), named).order_by(job.c.id).limit(1)
    return session.execute(statement).scalar()


def deriver_of(session: Session, contents: Sequence[str]) -> int | None:
    """The id of a job that is not finished and makes a version of one of these contents."""
    statement = select(job.c.id, job.c.spec).where(job.c.state.not_in(FINAL), job.c.kind == "derive")
    for job_id, spec in session.execute(statement.order_by(job.c.id)):
        if any(one["sha256"] in contents for one in spec["sources"]):
            return int(job_id)
    return None


def num_ended(session: Session, *, dataset: str, contents: Sequence[str]) -> int:
    """How many runs that have ended learned from one of these contents; older specs know the dataset's name alone."""
    known = job.c.spec[("data", "sha256")].as_string()
    by_name = known.is_(None) & (job.c.spec[("data", "dataset")].as_string() == dataset)
    ended = (job.c.kind == "train", job.c.state.in_(FINAL))
    statement = select(func.count()).select_from(job).where(*ended, or_(known.in_(contents), by_name))
    return session.execute(statement).scalar_one()


def merger_of(session: Session, text: str) -> int | None:
    """The id of a merge that is not finished and names this target; JOB@ is any checkpoint of that job."""
    statement = select(job.c.id, job.c.spec).where(job.c.state.not_in(FINAL), job.c.kind == "merge")
    for merge_id, spec in session.execute(statement.order_by(job.c.id)):
        named = [*(str(one["target"]) for one in spec["sources"]), str(spec.get("base"))]
        if any(one == text or (text.endswith("@") and one.startswith(text)) for one in named):
            return int(merge_id)
    return None
