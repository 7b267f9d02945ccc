"""Rows to compare heads on, as the run reads them."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.data.render import Renderer
from engine.data.room import Room
from engine.data.rows import iterate_rows, rows_at
from engine.data.split import split
from engine.data.tokens import token_columns
from engine.objectives import OBJECTIVES
from engine.runtime.held_out import ORIGINS
from engine.specs.job import JobSpec
from engine.specs.problem import ProblemError, problem
from storage.datasets import Version

WANTED_ROWS = 100
MIN_ROWS = 50
"""One row of fewer that differs is more than the limits allow."""
LEAST_ROWS = 10
Ids = tuple[int, ...]
Message = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Judged:
    """A row of the dataset, and its sequences of tokens: two of a pair, else one."""

    said: dict[str, Any]
    ids: tuple[Ids, ...]

    def conversations(self) -> list[list[Message]]:
        """What each sequence is the rendering of."""
        if "messages" in self.said:
            return [self.said["messages"][:-1]]
        answers = [self.said[name] for name in ("chosen", "rejected", "completion") if self.said.get(name)]
        return [[*self.said["prompt"], *answer] for answer in answers]


@dataclass(frozen=True, slots=True)
class JudgedRows:
    """`sources` counts the rows by origin."""

    rows: Sequence[Judged]
    sources: dict[str, int]

    @property
    def ids(self) -> list[Ids]:
        return [ids for row in self.rows for ids in row.ids]


def judged_rows(version: Version, spec: JobSpec, renderer: Renderer) -> JudgedRows:
    """Up to `WANTED_ROWS` rows drawn by the run's seed. Further origins are used only while there are too few.

    Raises:
        ProblemError: `data_too_few_judged`, all of them together are too few to compare on.
    """
    found: list[Judged] = []
    sources: dict[str, int] = {}
    draw, data = random.Random(spec.seed), spec.data  # noqa: S311  no secret
    parts = split(iterate_rows(Path(version.path)), data.eval_fraction, spec.seed, data.eval_by)
    for name, places in zip(ORIGINS, (parts.test, parts.eval, parts.train), strict=True):
        if len(found) >= MIN_ROWS:
            break
        chosen = sorted(draw.sample(places, min(len(places), WANTED_ROWS - len(found))))
        made = [row for said in rows_at(iterate_rows(Path(version.path)), chosen) for row in read(said, spec, renderer)]
        if made:
            sources[name] = len(made)
        found += made
    if len(found) < LEAST_ROWS:
        few: dict[str, Any] = {"dataset": version.name, "rows": len(found), "least": LEAST_ROWS}
        raise ProblemError([problem("data_too_few_judged", field="target", **few)])
    return JudgedRows(found, sources)


def read(said: dict[str, Any], spec: JobSpec, renderer: Renderer) -> Iterator[Judged]:
    """The row as the run reads it; nothing where it leaves it out."""
    chosen: Any = spec.objective
    room = Room(spec.data.max_length, spec.data.truncation)
    try:
        made = OBJECTIVES[chosen.kind].tokens(said, renderer, chosen, room)
    except ProblemError:
        return
    for row in made:
        ids = tuple(tuple(row[name]) for name in token_columns([key for key in row if isinstance(row[key], list)]))
        if all(ids):
            yield Judged(said, ids)
