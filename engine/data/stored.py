"""Stored versions as folders: moved into place, and what one tells of itself before its rows are read."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow
import pyarrow.parquet as pq

from engine.data.rows import SCHEMAS, files_of
from engine.files import sync_file
from engine.specs.problem import ProblemError, problem


def about(path: Path) -> tuple[str, int]:
    """The kind of a stored version's rows, and how many there are.

    Raises:
        ProblemError: it is gone, damaged, or no stored version.
    """
    try:
        parts = [pq.read_metadata(part) for part in files_of(path)]
        names = set(parts[0].schema.to_arrow_schema().names)
        kind = next(kind for kind, schema in SCHEMAS.items() if set(schema.names) >= names)
        return kind, sum(part.num_rows for part in parts)
    except (OSError, pyarrow.ArrowException, StopIteration) as error:
        raise unreadable(error) from error


def unreadable(error: Exception) -> ProblemError:
    """The problem of rows that cannot be read."""
    return ProblemError([problem("data_unreadable", detail=type(error).__name__)])


def publish_version(made: Path, final: Path) -> Path:
    """Move a version's folder into place, and return the path of its rows; one with the same rows stays as it is."""
    rows = final / "rows.parquet"
    if rows.exists():
        return rows
    for path in sorted(made.rglob("*")):
        sync_file(path)
    sync_file(made)
    if final.exists() and not rows.exists():  # what another program left there
        shutil.rmtree(final)
    try:
        made.rename(final)
    except OSError:
        if not rows.exists():  # else: another job was quicker with the same rows
            raise
    sync_file(final.parent)
    return rows
