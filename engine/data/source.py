"""Source: an opened file or folder of rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import IO, Any

from engine.specs.problem import Problem

RowOrProblem = dict[str, Any] | Problem
Rows = Iterator[tuple[int, RowOrProblem]]


@dataclass(frozen=True, slots=True)
class Source:
    """What was opened: its container, what its numbers count (`line` or `row`), and its rows, each with its number.

    Of a folder, the numbers are `Line`s; of what is opened while rows are read, warnings are there once they are read.
    """

    container: str
    place: str
    rows: Rows
    warnings: Sequence[Problem] = ()
    lines: IO[bytes] | None = None
    """The file itself where each of its lines is a row: reading can begin at any line."""
    start: int = 0
    """Where in `lines` the first row begins."""
    size: int = 0
    """Where `lines` ends."""


class Line(int):
    """A line or row of one file among several."""

    file: str

    def __new__(cls, number: int, file: str = "") -> Line:
        made = super().__new__(cls, number)
        made.file = file
        return made


def in_file(found: Problem, name: str) -> Problem:
    """The problem with the name of its file."""
    return replace(found, values={**found.values, "file": name})
