"""What a person can talk to or export: `base:MODEL`, `JOB` (its best or last checkpoint), `JOB@STEP`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from storage import checkpoints, jobs, models
from storage.checkpoints import Checkpoint, base_key, checkpoint
from storage.errors import Conflict, NotFound
from storage.models import model

TRAINED = re.compile(r"(\d{1,18})(?:@(\d{1,18}))?")
BASE = "base:"
MAKERS = ("train", "merge")
"""The kinds of jobs whose checkpoints can be talked to, exported and gone on from."""


@dataclass(frozen=True, slots=True)
class Target:
    """A base, with or without an adapter on it."""

    text: str
    """Exact: a job without a step has become JOB@STEP."""
    base_path: str
    base_key: str
    quantization: str
    dtype: str
    adapter_path: str | None
    job_id: int | None
    step: int | None
    model_id: int | None
    head: str = "language"
    """What the model gives: `language`, `classifier` or `score`."""


def must_talk(target: Target) -> Target:
    """The target, if it gives text; Conflict where it gives labels or scores."""
    if target.head != "language":
        raise Conflict("target_does_not_talk", {"target": target.text, "head": target.head})
    return target


def resolve(session: Session, text: str, *, quantization: str = "none", dtype: str | None = None) -> Target:
    """The target that a text names; quantisation and dtype are for a base, a checkpoint has its own."""
    if text.startswith(BASE):
        return _base(session, text, quantization=quantization, dtype=dtype)
    named = TRAINED.fullmatch(text)
    if named is None:
        raise NotFound("target", text)
    job_id, step = int(named[1]), None if named[2] is None else int(named[2])
    return _trained(session, _checkpoint(session, job_id, step))


def parse_key(key: str) -> tuple[str, str, str]:
    """The path, quantisation and dtype that a base key is made of."""
    path, quantization, dtype = key.rsplit("|", 2)
    return path, quantization, dtype


def _base(session: Session, text: str, *, quantization: str, dtype: str | None) -> Target:
    known = models.get(session, text.removeprefix(BASE))
    stored = str(known.facts.get("dtype") or "bfloat16")
    kind = dtype or _dtype_under_adapters(session, known.path, quantization) or stored
    return _untuned(text, known.path, quantization, kind, model_id=known.id)


def _dtype_under_adapters(session: Session, path: str, quantization: str) -> str | None:
    """The format in which the newest adapter's run kept this base: one base in memory then serves both."""
    newest = select(checkpoint.c.dtype).where(checkpoint.c.base_path == path, checkpoint.c.quantization == quantization)
    return session.execute(newest.order_by(checkpoint.c.id.desc()).limit(1)).scalar()


def _untuned(text: str, path: str, quantization: str, dtype: str, *, model_id: int | None) -> Target:
    key = base_key(path, quantization, dtype)
    return Target(text, path, key, quantization, dtype, adapter_path=None, job_id=None, step=None, model_id=model_id)


def _checkpoint(session: Session, job_id: int, step: int | None) -> Checkpoint:
    if step is not None:
        return checkpoints.get(session, job_id, step)
    jobs.get(session, job_id)
    best = checkpoints.best(session, job_id)
    if best is None:
        raise Conflict("no_checkpoint", {"id": job_id})
    return best


def _trained(session: Session, found: Checkpoint) -> Target:
    """A fully tuned checkpoint is a base of its own; an adapter stands on the base that it was trained on."""
    path = found.base_path if found.is_adapter else found.path
    quantization = found.quantization if found.is_adapter else "none"
    return Target(
        text=f"{found.job_id}@{found.step}",
        base_path=path,
        base_key=base_key(path, quantization, found.dtype),
        quantization=quantization,
        dtype=found.dtype,
        adapter_path=found.path if found.is_adapter else None,
        job_id=found.job_id,
        step=found.step,
        head=found.head,
        model_id=session.execute(select(model.c.id).where(model.c.path == found.base_path).limit(1)).scalar(),
    )
