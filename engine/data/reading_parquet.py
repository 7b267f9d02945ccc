"""Parquet files: read in small batches, after the sizes that their metadata states were judged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO, Any

from engine.data.arrow_types import faults, label_names, name_labels, readable_columns
from engine.data.source import Rows
from engine.specs.problem import Problem, ProblemError, problem

MAX_UNCOMPRESSED_BYTES = 16 * 2**30
BATCH_ROWS = 256


def read_parquet(handle: IO[bytes]) -> tuple[Rows, list[Problem]]:
    """The rows, numbered from 1, without the columns whose types no format takes; and a warning about those.

    Raises:
        ProblemError: the file is broken, or larger than it pretends to be; also while its rows are read.
    """
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(handle)
        size = sum(file.metadata.row_group(i).total_byte_size for i in range(file.metadata.num_row_groups))
        schema = file.schema_arrow
    except faults() as error:
        raise _broken(error) from error
    if size > MAX_UNCOMPRESSED_BYTES:
        raise ProblemError([problem("file_too_large", bytes=size, limit=MAX_UNCOMPRESSED_BYTES)])
    names, warnings = readable_columns(schema)
    return _rows(file, names), warnings


def _rows(file: Any, names: Sequence[str]) -> Rows:
    labels = label_names(file.schema_arrow)
    number = 0
    try:
        for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=names, use_threads=False):
            for row in batch.to_pylist():
                number += 1
                yield number, name_labels(row, labels)
    except faults() as error:
        raise _broken(error) from error


def _broken(error: Exception) -> ProblemError:
    return ProblemError([problem("file_parquet_broken", detail=str(error)[:200])])
