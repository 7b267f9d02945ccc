"""Which checkpoints may go by hand: never the best, the last, a pinned one, or one that another job stands on."""

from __future__ import annotations

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from storage import checkpoints, usage
from storage.checkpoints import SELECT_CHECKPOINT, Checkpoint, checkpoint
from storage.errors import Conflict, NotFound
from storage.job_values import job
from storage.rows import to_values
from storage.states import FINAL


def listing(session: Session) -> list[Checkpoint]:
    """All checkpoints, by job and step."""
    rows = session.execute(SELECT_CHECKPOINT.order_by(checkpoint.c.job_id, checkpoint.c.step))
    return to_values(Checkpoint, rows)


def job_ids(session: Session) -> set[int]:
    """The ids of all jobs: files that carry any other belong to a job that was deleted."""
    return set(session.execute(select(job.c.id)).scalars())


def staged_names(session: Session) -> dict[int, str | None]:
    """The jobs that have not ended, each with the staged file that it will read, if it is to read one."""
    open_ = select(job.c.id, job.c.spec).where(job.c.state.not_in(list(FINAL)))
    return {job_id: spec.get("staged") for job_id, spec in session.execute(open_).tuples()}


def unpin(session: Session, job_id: int, step: int) -> None:
    """Lets a checkpoint be removed for newer ones again. Conflict while a job that has not ended needs it."""
    found = checkpoints.get(session, job_id, step)
    if (user := _user_of(session, found)) is not None:
        raise Conflict("checkpoint_in_use", {"step": step, "id": job_id, "by": user})
    session.execute(update(checkpoint).where(checkpoint.c.id == found.id).values(pinned=False))


def removable(session: Session, job_id: int) -> list[Checkpoint]:
    """The checkpoints of a run that may go; none while it has not ended, and none where there is no such run."""
    state = session.execute(select(job.c.state).where(job.c.id == job_id)).scalar()
    if state not in FINAL:
        return []
    found = checkpoints.listing(session, job_id)
    best = checkpoints.best(session, job_id)
    kept = {one.id for one in (best, found[-1] if found else None) if one is not None}
    free = [one for one in found if not one.pinned and one.id not in kept]
    return [one for one in free if _user_of(session, one) is None]


def remove(session: Session, job_id: int) -> list[Checkpoint]:
    """Takes the removable checkpoints of a run off the list and returns them: their folders are the caller's."""
    if session.execute(select(job.c.id).where(job.c.id == job_id).with_for_update()).scalar() is None:
        raise NotFound("job", job_id)
    gone = removable(session, job_id)
    for one in gone:
        checkpoints.remove(session, one.id)
    return gone


def _user_of(session: Session, found: Checkpoint) -> int | None:
    """A job that starts from it or exports it and has not ended, or one whose own checkpoints stand on it."""
    name = f"{found.job_id}@{found.step}"
    named = (job.c.spec[("model", "start_from")].as_string() == name) | (job.c.spec["target"].as_string() == name)
    user: int | None = session.execute(select(job.c.id).where(job.c.state.not_in(list(FINAL)), named).limit(1)).scalar()
    if user is not None:
        return user
    if (merge := usage.merger_of(session, name)) is not None:
        return merge
    inside = f"{found.path}/"
    base = checkpoint.c.base_path
    stands = (base == found.path) | (func.substr(base, 1, len(inside)) == inside)
    others = select(checkpoint.c.job_id).where(checkpoint.c.id != found.id, stands)
    return session.execute(others.limit(1)).scalar()
