"""Parquet files: read in small batches, after the sizes that their metadata states were judged."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, Any

from engine.specs.problem import Problem, ProblemError, problem

MAX_UNCOMPRESSED_BYTES = 16 * 2**30
BATCH_ROWS = 256
CONVERTIBLE = ("binary", "decimal", "timestamp", "date", "time", "duration", "interval", "extension", "map", "union")


def read_parquet(handle: IO[bytes]) -> Iterator[tuple[int, dict[str, Any] | Problem]]:
    """The rows, numbered from 1, without the columns whose types no format takes.

    Raises:
        ProblemError: the file is broken, or larger than it pretends to be.
    """
    import pyarrow
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(handle)
        size = sum(file.metadata.row_group(i).total_byte_size for i in range(file.metadata.num_row_groups))
        if size > MAX_UNCOMPRESSED_BYTES:
            raise ProblemError([problem("file_too_large", bytes=size, limit=MAX_UNCOMPRESSED_BYTES)])
        names = [field.name for field in file.schema_arrow if _readable(str(field.type))]
        if not names:
            types = ", ".join(f"{field.name}: {field.type}" for field in file.schema_arrow)[:300]
            raise ProblemError([problem("file_no_text_columns", types=types)])
        number = 0
        for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=names, use_threads=False):
            for row in batch.to_pylist():
                number += 1
                yield number, row
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ProblemError([problem("file_parquet_broken", detail=str(error)[:200])]) from error


def _readable(type_name: str) -> bool:
    return not any(word in type_name for word in CONVERTIBLE)
