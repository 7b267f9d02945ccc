"""Canonical rows on disk: their Parquet form, their hash, and reading them back."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain
from pathlib import Path
from types import TracebackType
from typing import Any

import orjson
import pyarrow
import pyarrow.parquet as pq

Row = dict[str, Any]

TEXTS = ("role", "content", "tool_calls", "tool_call_id", "name")
MESSAGE = pyarrow.struct([("train", pyarrow.bool_()), *((name, pyarrow.string()) for name in TEXTS)])
MESSAGES = pyarrow.list_(MESSAGE)
SHARED = ("split", "task_type", "group", "origin")
"""What every row has, beside what it says: its part, its task, what keeps rows together, and `generated`."""
_STRING = pyarrow.string()
_KINDS: dict[str, dict[str, pyarrow.DataType]] = {
    "conversation": {"messages": MESSAGES, "tools": _STRING},
    "preference": {"prompt": MESSAGES, "chosen": MESSAGES, "rejected": MESSAGES, "tools": _STRING},
    "unpaired": {"prompt": MESSAGES, "completion": MESSAGES, "label": pyarrow.bool_(), "score": pyarrow.float64()},
    "text": {"text": _STRING},
}
SCHEMAS = {kind: pyarrow.schema([*own.items(), *((name, _STRING) for name in SHARED)]) for kind, own in _KINDS.items()}
_TELLING = {"messages": "conversation", "chosen": "preference", "completion": "unpaired", "text": "text"}
_FIELDS = [(field.name, field.type) for field in MESSAGE]
BATCH_ROWS = 1000
REPEATING = ["messages.list.element.role", "split", "task_type", "group", "origin"]
"""The columns that are worth a dictionary: texts are all different."""
TEST = "test"


def kind_of(row: Row) -> str:
    """The kind of a canonical row."""
    return next(kind for key, kind in _TELLING.items() if key in row)


def canonical(row: Row) -> bytes:
    """The one JSON text of a row, which its hash is made of."""
    return orjson.dumps(row, option=orjson.OPT_SORT_KEYS)


def fingerprint(row: Row) -> bytes:
    """A hash of what a row says, whichever split, task or group it belongs to."""
    said = {key: value for key, value in row.items() if key not in SHARED}
    return hashlib.blake2b(canonical({**said, "split": None}), digest_size=16).digest()


def digest(text: bytes | memoryview) -> bytes:
    """The digest of a row, from its canonical text."""
    return hashlib.sha256(text).digest()


def content_of(digests: Iterable[bytes], row_kind: str) -> str:
    """The hash that names a version's content, from the digests of its rows in their order."""
    whole = hashlib.sha256(f"rows 2 {row_kind}\n".encode())
    for some in digests:
        whole.update(some)
    return whole.hexdigest()


class Content:
    """The hash that names the content of rows that are read back, made as they pass.

    Versions of the first schema, whose rows have no `origin`, were named by the hash of their texts.
    """

    def __init__(self) -> None:
        self._whole: hashlib._Hash | None = None
        self._is_first = False

    @property
    def sha256(self) -> str | None:
        """None of no rows."""
        return None if self._whole is None else self._whole.hexdigest()

    def pass_on(self, rows: Iterable[Row]) -> Iterator[Row]:
        for row in rows:
            if self._whole is None:
                self._is_first = "origin" not in row
                self._whole = hashlib.sha256(f"rows {1 if self._is_first else 2} {kind_of(row)}\n".encode())
            text = canonical(row)
            self._whole.update(text + b"\n" if self._is_first else digest(text))
            yield row


@dataclass(frozen=True, slots=True)
class Batch:
    """Some rows as the columns of their kind's schema, and the digest of each."""

    table: pyarrow.Table
    digests: list[bytes]
    rows: Sequence[Row] | None
    """The rows themselves; None where they were never made one by one, and share nothing."""


def batch_of(rows: Sequence[Row], row_kind: str) -> Batch:
    """Rows as they will be read back: with every key of the schema, absent ones empty."""
    schema = SCHEMAS[row_kind]
    names = schema.names
    whole = [{name: row.get(name) for name in names} for row in rows]
    arrays = [
        _messages(whole, field.name)
        if field.type == MESSAGES
        else pyarrow.array([row[field.name] for row in whole], field.type)
        for field in schema
    ]
    return Batch(pyarrow.Table.from_arrays(arrays, schema=schema), [digest(canonical(row)) for row in whole], whole)


def _messages(rows: list[Row], key: str) -> pyarrow.ListArray:
    """One column of lists of messages; a message without every key is given them, in its row too."""
    lists = [row[key] for row in rows]
    if set(map(len, chain.from_iterable(lists))) - {MESSAGE.num_fields}:
        lists = [[{field.name: one.get(field.name) for field in MESSAGE} for one in each] for each in lists]
        for row, each in zip(rows, lists, strict=True):
            row[key] = each
    ends = list(accumulate(map(len, lists), initial=0))
    flat = list(chain.from_iterable(lists))
    arrays = [pyarrow.array([one[name] for one in flat], kind) for name, kind in _FIELDS]
    items = pyarrow.StructArray.from_arrays(arrays, fields=list(MESSAGE))
    return pyarrow.ListArray.from_arrays(pyarrow.array(ends, pyarrow.int32()), items, type=MESSAGES)


class RowWriter:
    """Writes rows of one kind to a Parquet file, batch by batch, and hashes them as they pass."""

    def __init__(self, path: Path, row_kind: str) -> None:
        self._row_kind = row_kind
        self._digests = bytearray()
        self._waiting: list[Row] = []
        self._writer = parquet_writer(path, row_kind)

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
        self._waiting.append(row)
        if len(self._waiting) == BATCH_ROWS:
            self._flush()

    def write(self, batch: Batch) -> None:
        """Append a batch of at most `BATCH_ROWS` rows."""
        self._digests += b"".join(batch.digests)
        self._writer.write_table(batch.table)

    @property
    def sha256(self) -> str:
        """The hash that names the content that is written."""
        return content_of([bytes(self._digests)], self._row_kind)

    def _flush(self) -> None:
        if self._waiting:
            self.write(batch_of(self._waiting, self._row_kind))
            self._waiting = []


def parquet_writer(path: Path, row_kind: str) -> pq.ParquetWriter:
    """A new Parquet file for rows of one kind; a row group may have at most `BATCH_ROWS` rows."""
    return pq.ParquetWriter(path, SCHEMAS[row_kind], compression="zstd", use_dictionary=REPEATING)


def files_of(path: Path) -> list[Path]:
    """The files of a version, in order: `rows.parquet`, and the further parts of a large one beside it."""
    return [path, *sorted(path.parent.glob("rows-*.parquet"))]


def iterate_rows(path: Path) -> Iterator[Row]:
    """All rows of a stored version, in order."""
    for part in files_of(path):
        with pq.ParquetFile(part, pre_buffer=False) as file:  # else it keeps all that it has read
            for batch in file.iter_batches(batch_size=BATCH_ROWS):
                yield from batch.to_pylist()


def last_answer(messages: Sequence[dict[str, Any]]) -> int | None:
    """The place of the assistant's last message."""
    return max((place for place, one in enumerate(messages) if one["role"] == "assistant"), default=None)


def rows_at(rows: Iterable[Row], indices: Sequence[int]) -> Iterator[Row]:
    """The rows of these numbers, which ascend; what follows the last one is not read."""
    wanted = iter(indices)
    following = next(wanted, None)
    for index, row in enumerate(rows if following is not None else ()):
        if index == following:
            yield row
            following = next(wanted, None)
            if following is None:
                return


def read_rows(path: Path, start: int, count: int) -> list[Row]:
    """Rows `start` to `start + count` of a stored version, without reading the others.

    Row groups hold at most `BATCH_ROWS` rows.
    """
    return list(rows_in(path, [(start, start + count)]))


def rows_in(path: Path, spans: Sequence[tuple[int, int]]) -> Iterator[Row]:
    """The rows of a stored version in these spans, which ascend; only the row groups that hold them are read."""
    first = 0
    for part in files_of(path):
        with pq.ParquetFile(part) as file:
            for group in range(file.metadata.num_row_groups):
                last = first + file.metadata.row_group(group).num_rows
                inside = [(max(start, first), min(end, last)) for start, end in spans if start < last and end > first]
                if inside:
                    read = file.read_row_group(group)
                    for start, end in inside:
                        yield from read.slice(start - first, end - start).to_pylist()
                first = last
