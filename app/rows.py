"""The rows of a stored dataset version, read for people: a few at a time, the others left on the disk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet as pq

Row = dict[str, Any]


def read(path: Path, start: int, count: int) -> list[Row]:
    """Return `count` rows from `start` on, reading only the row groups that hold them.

    Raises:
        OSError: the file is gone or unreadable.
    """
    try:
        return _read(path, start, count)
    except pyarrow.ArrowException as error:
        raise OSError(str(error)[:200]) from error


def at(path: Path, places: Sequence[int]) -> dict[int, Row]:
    """Return the rows of these numbers, which ascend; only the row groups that hold them are read.

    Raises:
        OSError: the file is gone or unreadable.
    """
    try:
        return _at(path, places)
    except pyarrow.ArrowException as error:
        raise OSError(str(error)[:200]) from error


def _at(path: Path, places: Sequence[int]) -> dict[int, Row]:
    found: dict[int, Row] = {}
    for file, group, first, last in _groups(path):
        inside = [place - first for place in places if first <= place < last]
        if inside:
            some = file.read_row_group(group).take(inside).to_pylist()
            found |= {first + place: row for place, row in zip(inside, some, strict=True)}
    return found


def _read(path: Path, start: int, count: int) -> list[Row]:
    found: list[Row] = []
    for file, group, first, last in _groups(path):
        if first < start + count and last > start:
            offset = max(0, start - first)
            length = min(last, start + count) - first - offset
            found += file.read_row_group(group).slice(offset, length).to_pylist()
    return found


def _groups(path: Path) -> Iterator[tuple[pq.ParquetFile, int, int, int]]:
    """The row groups of a version: their file, their number in it, and which rows they hold."""
    first = 0
    for part in (path, *sorted(path.parent.glob("rows-*.parquet"))):
        with pq.ParquetFile(part) as file:
            for group in range(file.metadata.num_row_groups):
                last = first + file.metadata.row_group(group).num_rows
                yield file, group, first, last
                first = last
