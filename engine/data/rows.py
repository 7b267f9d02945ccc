"""Canonical rows on disk: their Parquet form, their hash, and reading them back."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import orjson
import pyarrow
import pyarrow.parquet as pq

Row = dict[str, Any]

MESSAGES = pyarrow.list_(
    pyarrow.struct([("role", pyarrow.string()), ("content", pyarrow.string()), ("train", pyarrow.bool_())])
)
SCHEMAS = {
    "conversation": pyarrow.schema([("messages", MESSAGES), ("split", pyarrow.string())]),
    "preference": pyarrow.schema(
        [("prompt", MESSAGES), ("chosen", MESSAGES), ("rejected", MESSAGES), ("split", pyarrow.string())]
    ),
}
BATCH_ROWS = 1000
TEST = "test"


def canonical(row: Row) -> bytes:
    """The one JSON text of a row, which its hash is made of."""
    return orjson.dumps(row, option=orjson.OPT_SORT_KEYS)


def fingerprint(row: Row) -> bytes:
    """A hash of what a row says, whichever split it belongs to."""
    return hashlib.blake2b(canonical({**row, "split": None}), digest_size=16).digest()


def content_hash(row_kind: str) -> hashlib._Hash:
    """The hash of a version's content, which `canonical(row)` and a line feed go into row by row."""
    return hashlib.sha256(f"rows 1 {row_kind}\n".encode())


class RowWriter:
    """Writes rows of one kind to a Parquet file, batch by batch, and hashes them as they pass."""

    def __init__(self, path: Path, row_kind: str) -> None:
        self._schema = SCHEMAS[row_kind]
        self._hash = content_hash(row_kind)
        self._batch: list[Row] = []
        self._writer = pq.ParquetWriter(path, self._schema, compression="zstd")

    def __enter__(self) -> RowWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._flush()
        self._writer.close()

    def add(self, row: Row) -> None:
        """Append a row."""
        self._hash.update(canonical(row) + b"\n")
        self._batch.append(row)
        if len(self._batch) == BATCH_ROWS:
            self._flush()

    @property
    def sha256(self) -> str:
        """The hash of all rows so far, in their order."""
        return self._hash.hexdigest()

    def _flush(self) -> None:
        if self._batch:
            self._writer.write_table(pyarrow.Table.from_pylist(self._batch, schema=self._schema))
            self._batch = []


def iterate_rows(path: Path) -> Iterator[Row]:
    """All rows of a stored version, in order."""
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=BATCH_ROWS):
            yield from batch.to_pylist()


def read_rows(path: Path, start: int, count: int) -> list[Row]:
    """Rows `start` to `start + count` of a stored version, without reading the others.

    Row groups hold at most `BATCH_ROWS` rows.
    """
    found: list[Row] = []
    with pq.ParquetFile(path) as file:
        first = 0
        for group in range(file.metadata.num_row_groups):
            last = first + file.metadata.row_group(group).num_rows
            if first < start + count and last > start:
                table = file.read_row_group(group)
                found += table.slice(max(0, start - first), min(last, start + count) - max(first, start)).to_pylist()
            first = last
    return found
