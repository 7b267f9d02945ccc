"""Heads: what a model gives, and where a run of another one can start."""

from __future__ import annotations

from engine.objectives import OBJECTIVES
from engine.specs.job import JobSpec
from engine.specs.problem import Problem, problem


def other_head(spec: JobSpec, *, target: str, head: str, has_adapter: bool) -> Problem | None:
    """Why a run cannot start from a checkpoint because of what that gives; None where it can.

    A model that gives text can get another head. What becomes of an adapter is told by `engine/specs/starting.py`.
    """
    wanted = OBJECTIVES[spec.objective.kind].head
    if has_adapter or head in (wanted, "language"):
        return None
    return problem("start_from_head", field="model.start_from", target=target, given=head, allowed=wanted)
