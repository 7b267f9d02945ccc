"""What a stored version's file tells of itself before its rows are read."""

from __future__ import annotations

from pathlib import Path

import pyarrow
import pyarrow.parquet as pq

from engine.data.rows import SCHEMAS, files_of
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
