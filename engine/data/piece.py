"""A piece of a file: some of its rows, converted and counted. Pieces are made one by one or side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import pyarrow

from engine.data.rows import Batch, Row, batch_of
from engine.data.shape import Shape
from engine.data.statistics import Statistics
from engine.formats.messages_of import BadRow
from engine.specs.problem import Problem

RowOrProblem = dict[str, Any] | Problem
Numbered = Iterable[tuple[int, RowOrProblem]]

SHOWN_ROWS = 5
SHOWN_PROBLEMS = 50
MAX_WORDS = 5


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a file of lines: bytes from its start, and the number of the line that begins there."""

    offset: int
    line: int


@dataclass(slots=True)
class Tally:
    """What was counted over rows of a file. `problems` are the first ones, `kinds` counts all by code."""

    rows: int = 0
    usable: int = 0
    bad: int = 0
    problems: list[Problem] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    shown: list[Row] = field(default_factory=list)
    other_splits: set[str] = field(default_factory=set)
    statistics: Statistics = field(default_factory=Statistics)

    def add(self, other: Tally) -> None:
        """Add what was counted over the rows that follow."""
        self.rows += other.rows
        self.usable += other.usable
        self.bad += other.bad
        self.problems += other.problems[: SHOWN_PROBLEMS - len(self.problems)]
        self.kinds.update(other.kinds)
        self.shown += other.shown[: SHOWN_ROWS - len(self.shown)]
        self.other_splits = set(sorted(self.other_splits | other.other_splits)[:MAX_WORDS])
        self.statistics.extend(other.statistics)


@dataclass(frozen=True, slots=True)
class Piece:
    """Converted rows: their table (none where no row is usable), the hash of each, all problems, and the counts."""

    table: pyarrow.Table | None
    digests: bytes
    problems: list[Problem]
    tally: Tally
    next: Place | None = None
    """Where the file goes on behind it; None where reading cannot begin in the middle."""


def convert(shape: Shape, rows: Numbered, next: Place | None = None) -> Piece:
    """Convert the numbered rows of a file."""
    tally = Tally()
    usable: list[Row] = []
    problems: list[Problem] = []
    for line, raw in rows:
        tally.rows += 1
        try:
            made = shape.convert(raw, line) if not isinstance(raw, Problem) else _refuse(raw)
        except BadRow as error:
            tally.bad += 1
            problems += error.problems
            continue
        if made[0]["split"] is None:
            _note_split(shape.columns.cell(raw, "split"), tally)  # type: ignore[arg-type]
        usable += made
    tally.usable = len(usable)
    tally.problems = problems[:SHOWN_PROBLEMS]
    tally.kinds.update(found.code for found in problems)
    tally.shown = usable[:SHOWN_ROWS]
    return _piece(batch_of(usable, shape.row_kind) if usable else None, problems, tally, next)


def piece_of(batch: Batch, shown: list[Row], next: Place) -> Piece:
    """A piece of which every row is usable, of its rows as columns and the first as they are shown."""
    count = len(batch.digests)
    return _piece(batch, [], Tally(rows=count, usable=count, shown=shown), next)


def _piece(batch: Batch | None, problems: list[Problem], tally: Tally, next: Place | None) -> Piece:
    if batch is None:
        return Piece(None, b"", problems, tally, next)
    tally.statistics.add(batch)
    return Piece(batch.table, b"".join(batch.digests), problems, tally, next)


def _refuse(found: Problem) -> list[Row]:
    raise BadRow(found)


def _note_split(word: Any, tally: Tally) -> None:
    if word is not None and len(tally.other_splits) < MAX_WORDS:
        tally.other_splits.add(str(word)[:40])
