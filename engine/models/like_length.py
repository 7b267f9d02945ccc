"""Rows of like length together, so that batches hold little padding. Child processes only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy
import torch
from torch.utils.data import Sampler

from engine.data.packing import place_of
from engine.data.tokens import TASK_TYPE, token_columns

MOST_STEPS = 50
"""Steps whose rows are sorted together, in an epoch of at least `LEAST_POOLS` times as many; else fewer."""
LEAST_POOLS = 4
PROMPT = "prompt"
"""What the name of a prompt's column begins with."""


def padded_lengths(dataset: Any) -> list[int]:
    """How long each row is in a padded batch: its tokens; of answers to a prompt, those with the longest answer."""
    import pyarrow.compute as compute

    table = dataset.with_format("arrow")[:]
    lists = [field.name for field in table.schema if "list" in str(field.type)]
    counts = {name: compute.list_value_length(table[name]).to_numpy() for name in token_columns(lists)}
    prompts = sum(count for name, count in counts.items() if name.startswith(PROMPT))
    others = [count for name, count in counts.items() if not name.startswith(PROMPT)]
    return [int(count) for count in prompts + numpy.maximum.reduce(others)]


@dataclass(frozen=True, slots=True)
class EvaluationBatches:
    """Every row once, in batches of one task type each, the same at each evaluation."""

    places: list[list[int]]
    tasks: Sequence[str]
    """The task type of each batch; "" for those that are not told apart."""

    @classmethod
    def of(
        cls, dataset: Any, size: int, task_types: Sequence[str], lengths: Sequence[int] | None = None
    ) -> EvaluationBatches:
        """Batches of at most `size` rows: the longest first, or in the order of the dataset where no lengths are told.

        Where there is only one task type all rows are alike.
        """
        kinds, lengths = [0] * len(dataset), lengths or [0] * len(dataset)
        if len(task_types) > 1:
            kinds = [place_of(name, task_types) for name in dataset[TASK_TYPE]]
        ordered = sorted(range(len(dataset)), key=lambda at: (kinds[at], -lengths[at]))
        names = (*task_types, "") if len(task_types) > 1 else ("",)
        places: list[list[int]] = []
        tasks: list[str] = []
        for kind, found in groupby(ordered, key=kinds.__getitem__):
            rows = list(found)
            batches = [rows[first : first + size] for first in range(0, len(rows), size)]
            places += batches
            tasks += [names[kind]] * len(batches)
        return cls(places, tasks)

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)


class LikeLength(Sampler[int]):
    """Every row once in an epoch, the rows of a step of like length, the steps in random order.

    The library's sampler of that kind sorts pools of random rows too, but draws from the state that the process is in:
    a resumed run would not find its place. Here an epoch's order follows from the seed, the epoch and the rows of a
    step alone, so that it is the same after a resume, and also where memory ran out and a step is made of smaller
    batches.
    It differs from epoch to epoch, and has no trend: steps of a pool are scattered over the epoch.
    """

    def __init__(self, lengths: Sequence[int], *, step: int, seed: int) -> None:
        self._lengths, self._step, self._seed = lengths, step, seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Told by the library before each epoch, also by a run that goes on within one."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        draw = torch.Generator().manual_seed(self._seed + self._epoch)
        places: list[int] = torch.randperm(len(self._lengths), generator=draw).tolist()
        whole = len(places) - len(places) % self._step
        steps = self._steps(places[:whole])
        for at in torch.randperm(len(steps), generator=draw).tolist():
            yield from steps[at]
        yield from longest_first(
            places[whole:], self._lengths
        )  # rows that fill no step: random ones, not always the shortest

    def _steps(self, places: Sequence[int]) -> list[Sequence[int]]:
        pool = self._step * max(1, min(MOST_STEPS, len(places) // self._step // LEAST_POOLS))
        pools = [longest_first(places[first : first + pool], self._lengths) for first in range(0, len(places), pool)]
        return [one[first : first + self._step] for one in pools for first in range(0, len(one), self._step)]


def longest_first(places: Sequence[int], lengths: Sequence[int]) -> list[int]:
    """Places of rows by their lengths, in the given order where these are equal."""
    return sorted(places, key=lambda place: -lengths[place])
