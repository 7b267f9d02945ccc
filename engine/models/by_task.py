"""Losses and rewards of rows by the task type of each: curves of their own. Child processes only."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Any

import torch

from engine.data.packing import place_of
from engine.data.tokens import TASK_TYPE

TASK_LOSS, TASK_REWARD = "task_loss/", "task_reward/"


Collate = Callable[[Sequence[Mapping[str, Any]]], dict[str, Any]]


def task_places(rows: Sequence[Mapping[str, Any]], task_types: Sequence[str]) -> torch.Tensor:
    """The place of each row's task type among the named ones; behind the last for any other."""
    return torch.tensor([place_of(row.get(TASK_TYPE, ""), task_types) for row in rows])


def with_tasks(collate: Collate, task_types: Sequence[str]) -> Collate:
    """The same batches with `tasks`, the places of their rows' task types."""
    return lambda rows: {**collate(rows), "tasks": task_places(rows, task_types)}


def add_by_task(
    figures: MutableMapping[str, list[float]],
    values: torch.Tensor,
    tasks: torch.Tensor,
    task_types: Sequence[str],
    prefix: str = TASK_LOSS,
) -> None:
    """Add what each row of a batch has, its loss, to the figures of its task type; a point of the curves is their mean.

    Where all rows are of one type nothing is added: its curve would be that of the whole.
    """
    if len(task_types) < 2:
        return
    for task, value in zip(tasks.tolist(), values.detach().float().tolist(), strict=True):
        if task < len(task_types):
            figures.setdefault(prefix + task_types[task], []).append(value)
