"""Answers that a run drew while it was trained, with their rewards: the newest steps, and a thin history before."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, delete, insert, select
from sqlalchemy.orm import Session

from storage.claims import Claim, guard
from storage.clock import now
from storage.rows import select_values, table_of, to_values
from storage.tables import SampleRow

sample = table_of(SampleRow)
NEWEST = 50
"""Steps whose samples are all kept."""
THIN = 50
"""At most so many older steps keep theirs, evenly spaced, and the first one that there was."""
LONGEST = 4000
"""Characters of a text."""


@dataclass(frozen=True, slots=True)
class NewSample:
    """One answer. `question` counts the prompts of the step; `rewards` holds each reward before its weight."""

    question: int
    prompt: str
    reference: str
    completion: str
    num_tokens: int
    cut: bool
    reward: float | None
    rewards: dict[str, float | None]


@dataclass(frozen=True, slots=True)
class Sample:
    """One answer as it was kept."""

    step: int
    place: int
    question: int
    prompt: str
    reference: str
    completion: str
    num_tokens: int
    cut: bool
    reward: float | None
    rewards: dict[str, Any]


SELECT_SAMPLE = select_values(sample, Sample)


def add(session: Session, claim: Claim, step: int, new: Sequence[NewSample]) -> None:
    """Keeps the samples of a step in the place of any that it had, and thins out older ones."""
    guard(session, claim)
    session.execute(delete(sample).where(_of(claim.job_id), sample.c.step == step))
    common = {"job_id": claim.job_id, "token": claim.token, "step": step, "created_at": now()}
    for place, one in enumerate(new):
        session.execute(insert(sample).values({**common, "place": place, **_bounded(one)}))
    _thin_out(session, claim.job_id)


def steps(session: Session, job_id: int) -> list[int]:
    """The steps that have samples, newest first."""
    statement = select(sample.c.step).where(_of(job_id)).distinct().order_by(sample.c.step.desc())
    return list(session.execute(statement).scalars())


def of_step(session: Session, job_id: int, step: int) -> list[Sample]:
    """The samples of a step, prompt by prompt, the best first."""
    order = (sample.c.question, sample.c.reward.desc().nulls_last(), sample.c.place)
    statement = SELECT_SAMPLE.where(_of(job_id), sample.c.step == step).order_by(*order)
    return to_values(Sample, session.execute(statement))


def _bounded(one: NewSample) -> dict[str, Any]:
    return {
        "question": one.question,
        "prompt": one.prompt[-LONGEST:],  # of a long prompt the end is what is asked
        "reference": one.reference[:LONGEST],
        "completion": one.completion[:LONGEST],
        "num_tokens": one.num_tokens,
        "cut": one.cut,
        "reward": _finite(one.reward),
        "rewards": {name: _finite(value) for name, value in one.rewards.items()},
    }


def _thin_out(session: Session, job_id: int) -> None:
    """Of the steps before the newest ones, the first stays and every step that a power of two divides."""
    older = steps(session, job_id)[NEWEST:-1]
    spacing = 2 ** max(0, math.ceil(math.log2(max(older, default=1) / THIN)))
    gone = [step for step in older if step % spacing]
    if gone:
        session.execute(delete(sample).where(_of(job_id), sample.c.step.in_(gone)))


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _of(job_id: int) -> ColumnElement[bool]:
    return sample.c.job_id == job_id
