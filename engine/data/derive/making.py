"""Storing what an operation makes: a version as any other, in a folder named by the hash of its rows."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from engine.data.derive import OPERATIONS
from engine.data.derive.sources import Sources
from engine.data.rows import BATCH_ROWS, Row, RowWriter, batch_of
from engine.data.statistics import Statistics
from engine.data.stored import publish_version
from engine.specs.base import EntrySpec
from engine.specs.problem import Problem, ProblemError, problem


@dataclass(frozen=True, slots=True)
class Made:
    """A version on disk; `path` is its Parquet file."""

    sha256: str
    path: Path
    bytes: int
    row_kind: str
    rows: int
    statistics: dict[str, Any]
    warnings: list[Problem]


def make(sources: Sources, operation: EntrySpec, datasets: Path) -> Made:
    """Do an operation and store its rows; equal rows are stored once.

    Raises:
        ProblemError: the operation cannot be done with these sources, or leaves no row.
    """
    return store(OPERATIONS[operation.kind](sources, operation), sources.row_kind, datasets)


def store(rows: Iterator[Row], row_kind: str, datasets: Path) -> Made:
    """Store rows of one kind as a version.

    Raises:
        ProblemError: there are none.
    """
    statistics, num_rows = Statistics(), 0
    with tempfile.TemporaryDirectory(prefix=".incoming-", dir=datasets) as folder:
        incoming = Path(folder) / "version"
        incoming.mkdir(mode=0o700)
        with RowWriter(incoming / "rows.parquet", row_kind) as writer:
            while some := list(islice(rows, BATCH_ROWS)):
                batch = batch_of(some, row_kind)
                writer.write(batch)
                statistics.add(batch)
                num_rows += len(some)
        if num_rows == 0:
            raise ProblemError([problem("data_nothing_left", field="operation")])
        path = publish_version(incoming, datasets / writer.sha256)
    told = statistics.as_dict()
    return Made(writer.sha256, path, path.stat().st_size, row_kind, num_rows, told, statistics.warnings())
