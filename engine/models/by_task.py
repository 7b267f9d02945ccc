"""Losses of rows by the task type of each: curves of their own. Child processes only."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Any

import torch

from engine.data.packing import place_of
from engine.data.tokens import TASK_TYPE

TASK_LOSS = "task_loss/"


Collate = Callable[[Sequence[Mapping[str, Any]]], dict[str, Any]]


def with_tasks(collate: Collate, task_types: Sequence[str]) -> Collate:
    """The same batches with `tasks`: the place of each row's task type among the named ones, behind the last for any
    other."""

    def collated(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        return {**collate(rows), "tasks": torch.tensor([place_of(row.get(TASK_TYPE, ""), task_types) for row in rows])}

    return collated


def note(
    figures: MutableMapping[str, list[float]],
    losses: torch.Tensor,
    batch: Mapping[str, Any],
    task_types: Sequence[str],
) -> None:
    """Add the loss of each row of a batch to the figures of its task type; a point of the curves is their mean.

    Where all rows are of one type nothing is added: its curve would be that of the loss.
    """
    if len(task_types) < 2:
        return
    for task, loss in zip(batch["tasks"].tolist(), losses.detach().float().tolist(), strict=True):
        if task < len(task_types):
            figures.setdefault(TASK_LOSS + task_types[task], []).append(loss)
