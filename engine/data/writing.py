"""A stored version as a file that others can read: JSON lines, CSV with formulas defused, or Parquet as it is."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pyarrow
import pyarrow.parquet as pq

from engine.data.rows import BATCH_ROWS, SCHEMAS, Row, files_of, iterate_rows, parquet_writer
from engine.data.stored import about, unreadable

PROGRESS_ROWS = 2000
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""How a cell begins that a spreadsheet would compute (OWASP, CSV injection)."""


@dataclass(frozen=True, slots=True)
class Written:
    """How many rows were written, and how many cells got a leading ' so that no spreadsheet computes them."""

    rows: int
    defused: int = 0


def write_jsonl(source: Path, target: Path, told: Callable[[int], None]) -> Written:
    """One object a line: what is empty is left out, tools and their calls are JSON as they were given."""
    count = 0
    with target.open("wb") as file:
        for row in _counted(source, told):
            file.write(orjson.dumps({key: _plain(key, value) for key, value in row.items() if value is not None}))
            file.write(b"\n")
            count += 1
    return Written(count)


def write_csv(source: Path, target: Path, told: Callable[[int], None]) -> Written:
    """One row a line under the names of the columns; messages are JSON in their cell."""
    row_kind, _ = about(source)
    names = SCHEMAS[row_kind].names
    count = defused = 0
    with target.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(names)
        for row in _counted(source, told):
            cells = [row.get(name) for name in names]
            dangerous = [isinstance(cell, str) and cell.startswith(FORMULA) for cell in cells]
            defused += sum(dangerous)
            table.writerow([f"'{cell}" if mark else _cell(cell) for cell, mark in zip(cells, dangerous, strict=True)])
            count += 1
    return Written(count, defused)


def write_parquet(source: Path, target: Path, told: Callable[[int], None]) -> Written:
    """The stored file itself, or the parts of a large version as one."""
    row_kind, count = about(source)
    parts = files_of(source)
    if len(parts) == 1:
        shutil.copyfile(source, target)
        return Written(count)
    written = 0
    with parquet_writer(target, row_kind) as writer:
        for part in parts:
            with pq.ParquetFile(part, pre_buffer=False) as file:
                for batch in file.iter_batches(batch_size=BATCH_ROWS):
                    writer.write_batch(batch)
                    written += batch.num_rows
                    told(written)
    return Written(written)


WRITERS: dict[str, Callable[[Path, Path, Callable[[int], None]], Written]] = {
    "jsonl": write_jsonl,
    "csv": write_csv,
    "parquet": write_parquet,
}


def _counted(source: Path, told: Callable[[int], None]) -> Iterable[Row]:
    try:
        for number, row in enumerate(iterate_rows(source), 1):
            if number % PROGRESS_ROWS == 0:
                told(number)
            yield row
    except pyarrow.ArrowException as error:
        raise unreadable(error) from error


def _plain(key: str, value: Any) -> Any:
    if isinstance(value, list):
        return [{name: _plain(name, one) for name, one in turn.items() if one is not None} for turn in value]
    return _loaded(value) if key in ("tools", "tool_calls") else value


def _loaded(text: str) -> Any:
    """JSON that is kept as text, as JSON."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list):
        return orjson.dumps(_plain("", value)).decode()
    return value if isinstance(value, str) else orjson.dumps(value).decode()
