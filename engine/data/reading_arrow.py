"""Arrow files (Feather) and streams, as Hugging Face's library saves them: each batch is checked before it is read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO, Any

from engine.data.arrow_types import faults, label_names, name_labels, readable_columns
from engine.data.source import Rows
from engine.specs.problem import Problem, ProblemError, problem

FILE = b"ARROW1\0\0"
STREAM = b"\xff\xff\xff\xff"
SLICE_ROWS = 256


def is_arrow(head: bytes) -> bool:
    """Whether a file begins as an Arrow file or stream does."""
    return head.startswith((FILE, STREAM))


def read_arrow(handle: IO[bytes], *, stream: bool) -> tuple[Rows, list[Problem]]:
    """The rows, numbered from 1, without the columns whose types no format takes; and a warning about those.

    Raises:
        ProblemError: the file is broken; also while its rows are read.
    """
    from pyarrow import ipc

    open_it = ipc.open_stream if stream else ipc.open_file
    try:
        schema = open_it(handle).schema
        names, warnings = readable_columns(schema)
        wanted = [schema.get_field_index(name) for name in names]
        handle.seek(0)
        reader = open_it(handle, options=ipc.IpcReadOptions(use_threads=False, included_fields=wanted))
    except faults() as error:
        raise _broken(error) from error
    return _rows(reader, names, stream=stream), warnings


def _rows(reader: Any, names: Sequence[str], *, stream: bool) -> Rows:
    labels = label_names(reader.schema)
    number = 0
    try:
        batches = reader if stream else (reader.get_batch(i) for i in range(reader.num_record_batches))
        for batch in batches:
            chosen = batch.select(names)
            chosen.validate(full=True)
            for start in range(0, chosen.num_rows, SLICE_ROWS):
                for row in chosen.slice(start, SLICE_ROWS).to_pylist():
                    number += 1
                    yield number, name_labels(row, labels)
    except faults() as error:
        raise _broken(error) from error


def _broken(error: Exception) -> ProblemError:
    return ProblemError([problem("file_arrow_broken", detail=str(error)[:200])])
