"""Some rows of a stored version, read without the others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq

from engine.data.rows import Row, files_of, iterate_rows, rows_in

PLACES = 100
"""Of more rows than are wanted, those at so many places are taken, evenly spread, each with the rows that follow."""


def num_rows(path: Path) -> int:
    """How many rows a version has."""
    return sum(pq.read_metadata(part).num_rows for part in files_of(path))


def sample(path: Path, most: int) -> Iterator[Row]:
    """At most `most` rows of a version, in order: all where there are no more, else evenly spread ones."""
    rows = num_rows(path)
    if rows <= most:
        yield from iterate_rows(path)
        return
    each = most // PLACES
    starts = (place * rows // PLACES for place in range(PLACES))
    yield from rows_in(path, [(start, start + each) for start in starts])
