"""Checkpoints: a row is written after the folder is complete and in its place."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import delete, func, literal, or_, select, update
from sqlalchemy.orm import Session

from storage.claims import Claim, guard, job
from storage.clock import now
from storage.errors import NotFound
from storage.job_values import record
from storage.rows import columns, select_values, table_of, to_value, to_values, upsert
from storage.tables import CheckpointRow

checkpoint = table_of(CheckpointRow)
WORST = float(2**1000)


def base_key(base_path: str, quantization: str, dtype: str) -> str:
    """The name of one base in memory: what two targets must share to be served by one process."""
    return f"{base_path}|{quantization}|{dtype}"


@dataclass(frozen=True, slots=True)
class NewCheckpoint:
    """What the trainer knows of a checkpoint that it has just put in place."""

    step: int
    path: str
    manifest_sha: str
    bytes: int
    base_path: str
    """The base that was trained on."""
    quantization: str
    dtype: str
    is_adapter: bool
    eval_loss: float | None = None
    pinned: bool = False
    head: str = "language"
    """`language`, `classifier` or `score`: what the model gives."""
    score: float | None = None
    """What the best one is chosen by, where that is not the evaluation loss: more is better."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A folder to resume from, to chat with, or to export."""

    id: int
    job_id: int
    step: int
    token: int
    path: str
    manifest_sha: str
    bytes: int
    created_at: float
    eval_loss: float | None
    pinned: bool
    base_path: str
    base_key: str
    quantization: str
    dtype: str
    is_adapter: bool
    head: str
    score: float | None


SELECT_CHECKPOINT = select_values(checkpoint, Checkpoint)


def add(session: Session, claim: Claim, new: NewCheckpoint) -> Checkpoint:
    """Lists a checkpoint and renews the job's budget of attempts. A step saved anew replaces the old row."""
    guard(session, claim, granted=job.c.granted + job.c.deaths, deaths=0)
    values = {name: getattr(new, name) for name in NewCheckpoint.__dataclass_fields__}
    values |= {"token": claim.token, "base_key": base_key(new.base_path, new.quantization, new.dtype)}
    insert = upsert(session, checkpoint).values(job_id=claim.job_id, created_at=now(), **values)
    statement = insert.on_conflict_do_update(
        index_elements=["job_id", "step"], set_={**values, "created_at": insert.excluded.created_at}
    )
    row = session.execute(statement.returning(*columns(checkpoint, Checkpoint))).one()
    record(session, claim.job_id, token=claim.token, kind="checkpoint", data={"step": new.step, "bytes": new.bytes})
    return to_value(Checkpoint, row)


def listing(session: Session, job_id: int) -> list[Checkpoint]:
    """The checkpoints of a job, first step first."""
    statement = SELECT_CHECKPOINT.where(checkpoint.c.job_id == job_id).order_by(checkpoint.c.step)
    return to_values(Checkpoint, session.execute(statement))


def get(session: Session, job_id: int, step: int) -> Checkpoint:
    """The checkpoint at a step; NotFound where there is none."""
    where = (checkpoint.c.job_id == job_id, checkpoint.c.step == step)
    row = session.execute(SELECT_CHECKPOINT.where(*where)).one_or_none()
    if row is None:
        raise NotFound("checkpoint", f"{job_id}@{step}")
    return to_value(Checkpoint, row)


def at_path(session: Session, path: str) -> Checkpoint | None:
    """The checkpoint whose folder this is; None where it is none."""
    row = session.execute(SELECT_CHECKPOINT.where(checkpoint.c.path == path)).one_or_none()
    return None if row is None else to_value(Checkpoint, row)


def best(session: Session, job_id: int) -> Checkpoint | None:
    """The one with the greatest score, else the least evaluation loss; the later of two equals; else the last."""
    score, loss = func.coalesce(checkpoint.c.score, -WORST), func.coalesce(checkpoint.c.eval_loss, WORST)
    order = (score.desc(), loss, checkpoint.c.step.desc())
    row = session.execute(
        SELECT_CHECKPOINT.where(checkpoint.c.job_id == job_id).order_by(*order).limit(1)
    ).one_or_none()
    return None if row is None else to_value(Checkpoint, row)


def pin(session: Session, job_id: int, step: int) -> None:
    """Keeps a checkpoint from being removed for newer ones; NotFound where there is none."""
    where = (checkpoint.c.job_id == job_id, checkpoint.c.step == step)
    pinned = session.execute(update(checkpoint).where(*where).values(pinned=True).returning(checkpoint.c.id))
    if pinned.scalar() is None:
        raise NotFound("checkpoint", f"{job_id}@{step}")


def move_base(session: Session, before: str, after: str) -> None:
    """Tells the checkpoints that stand on a base that its folder lies elsewhere now."""
    key = literal(f"{after}|") + checkpoint.c.quantization + "|" + checkpoint.c.dtype
    moved = update(checkpoint).where(checkpoint.c.base_path == before).values(base_path=after, base_key=key)
    session.execute(moved)


def user_of(session: Session, job_id: int) -> int | None:
    """Another job with a checkpoint whose base is one of this job's, or lies in it."""
    own, other = checkpoint.alias(), checkpoint.alias()
    inside = own.c.path + "/"
    stands = or_(other.c.base_path == own.c.path, func.substr(other.c.base_path, 1, func.length(inside)) == inside)
    where = (own.c.job_id == job_id, other.c.job_id != job_id, stands)
    return session.execute(select(other.c.job_id).where(*where).limit(1)).scalar()


def remove(session: Session, checkpoint_id: int) -> None:
    """Takes a checkpoint off the list, before its folder is deleted; NotFound where there is none, or it is pinned."""
    where = (checkpoint.c.id == checkpoint_id, checkpoint.c.pinned.is_(False))
    if session.execute(delete(checkpoint).where(*where).returning(checkpoint.c.id)).scalar() is None:
        raise NotFound("checkpoint", checkpoint_id)


def remove_all(session: Session, job_id: int) -> None:
    """Takes all checkpoints of a job off the list, but for pinned ones."""
    session.execute(delete(checkpoint).where(checkpoint.c.job_id == job_id, checkpoint.c.pinned.is_(False)))
