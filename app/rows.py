"""The rows of a stored dataset version, read for people: a few at a time, the others left on the disk."""

from __future__ import annotations

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


def _read(path: Path, start: int, count: int) -> list[Row]:
    found: list[Row] = []
    first = 0
    for part in (path, *sorted(path.parent.glob("rows-*.parquet"))):
        with pq.ParquetFile(part) as file:
            for group in range(file.metadata.num_row_groups):
                last = first + file.metadata.row_group(group).num_rows
                if first < start + count and last > start:
                    offset = max(0, start - first)
                    length = min(last, start + count) - first - offset
                    found += file.read_row_group(group).slice(offset, length).to_pylist()
                first = last
    return found
