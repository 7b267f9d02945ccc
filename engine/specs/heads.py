"""Heads: what a model gives, and where a run of another one can start."""

from __future__ import annotations

from engine.objectives import OBJECTIVES
from engine.specs.job import JobSpec
from engine.specs.problem import Problem, problem
from engine.tuners import TUNERS


def other_head(spec: JobSpec, *, target: str, head: str, has_adapter: bool) -> Problem | None:
    """Why a run cannot start from a checkpoint because of what that gives; None where it can.

    A model that gives text can get another head, unless the adapter on it is to be trained further.
    """
    wanted = OBJECTIVES[spec.objective.kind].head
    goes_on = TUNERS[spec.tuner.kind].is_adapter and has_adapter
    if head == wanted or (head == "language" and not goes_on):
        return None
    return problem("start_from_head", field="model.start_from", target=target, given=head, allowed=wanted)
