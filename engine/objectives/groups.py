"""What an objective learns from, as a form groups the objectives. No entry of the catalogue."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from engine.objectives.protocol import Objective

GROUPS = ("answers", "texts", "labels", "preferences", "rewards", "teacher")
"""In the order in which a form shows them; the sentence `objective_group.GROUP` names each."""
BY_HEAD = {"classifier": "labels", "score": "preferences"}
BY_ROWS = {"conversation": "answers", "text": "texts", "preference": "preferences", "unpaired": "preferences"}


@runtime_checkable
class Grouped(Protocol):
    """An objective that names its group, where neither its head nor its rows tell it."""

    @property
    def group(self) -> str: ...


def group_of(objective: Objective) -> str:
    """Return one of `GROUPS`: what the objective names, else what its head or the first kind of its rows tells."""
    if isinstance(objective, Grouped):
        return objective.group
    return BY_HEAD.get(objective.head) or BY_ROWS.get(objective.row_kinds[0], GROUPS[0])
