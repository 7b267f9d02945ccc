"""What a person wants to know of a dataset's rows before any model is chosen, counted as the rows pass.

Counting goes by columns, a batch at a time, and keeps a few numbers a row: a million rows take some 30 MB.
"""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow
import pyarrow.compute as pc

from engine.data.doctor.languages import JUDGED_CHARACTERS
from engine.data.languages import Languages, lowest
from engine.data.rows import MESSAGES, SHARED, TEST, Batch, canonical, digest
from engine.specs.problem import Problem, problem

CONTROL_TEXT = r"<\|[^|<>\s]{1,40}\|>|</?s>|\[/?INST\]|<(?:start|end)_of_turn>|</?think>"
INVISIBLE = (
    "[\u0001-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u200b\u2028\u2029\u202a-\u202e\u2060\u2066-\u2069\ufeff]"
)
FEW_ROWS = 20
BARS = 24
MAX_TASK_TYPES = 200
OTHERS = "…"

Numbers = Any
"""A one-dimensional numpy array."""


@dataclass(frozen=True, slots=True)
class Texts:
    """All texts of a batch, each with its row, its length in characters, and whether a model is to write it."""

    content: pyarrow.ChunkedArray
    rows: Numbers
    lengths: Numbers
    is_answer: Numbers


class Statistics:
    """Counts over canonical rows of one kind."""

    def __init__(self) -> None:
        self._prompts, self._answers, self._turns = (array("I") for _ in range(3))
        self._marks = array("Q")
        self._held_out = array("B")
        self._tasks: Counter[str] = Counter()
        self._languages = Languages()
        self._with_control = self._with_invisible = 0

    def add(self, batch: Batch) -> None:
        """Count a batch of rows in."""
        held_out = pc.fill_null(pc.equal(batch.table["split"], TEST), False)
        self._held_out.frombytes(held_out.to_numpy().astype(np.uint8).tobytes())
        marks = _marks(batch)
        self._marks.frombytes(marks)
        for task in pc.value_counts(batch.table["task_type"].drop_null()).to_pylist():
            self._count_task(task["values"], task["counts"])
        texts = _texts(batch.table)
        rows, lengths, answers = texts.rows, texts.lengths, texts.is_answer
        count = batch.table.num_rows
        self._prompts.frombytes(_sums(rows[~answers], lengths[~answers], count))
        self._answers.frombytes(lengths[answers].astype(np.uint32).tobytes())
        self._turns.frombytes(_sums(rows, np.ones(len(rows)), count))
        content, places = _with(f"{CONTROL_TEXT}|{INVISIBLE}", texts.content, rows)
        if len(places):
            self._with_control += len(np.unique(_with(CONTROL_TEXT, content, places)[1]))
            self._with_invisible += len(np.unique(_with(INVISIBLE, content, places)[1]))
        numbers = np.frombuffer(marks, np.uint64)
        sample = lowest(numbers)
        self._languages.add(numbers[sample], _said(texts, sample))

    def extend(self, other: Statistics) -> None:
        """Count in what another one counted over the rows that follow."""
        for mine, others in zip(self._arrays(), other._arrays(), strict=True):
            mine.extend(others)
        for name, count in other._tasks.items():
            self._count_task(name, count)
        self._languages.extend(other._languages)
        self._with_control += other._with_control
        self._with_invisible += other._with_invisible

    def _count_task(self, name: str, count: int) -> None:
        """Of a column that says something else in each row, only the first names are counted one by one."""
        known = name in self._tasks or len(self._tasks) < MAX_TASK_TYPES
        self._tasks[name if known else OTHERS] += count

    def save(self, path: Path) -> None:
        """Write the counts to a file, from which `load` makes the same."""
        plain = {
            "tasks": self._tasks,
            "languages": self._languages.plain(),
            "control": self._with_control,
            "invisible": self._with_invisible,
        }
        arrays: dict[str, Any] = {str(place): np.array(one) for place, one in enumerate(self._arrays())}
        with path.open("wb") as handle:
            np.savez(handle, plain=np.frombuffer(orjson.dumps(plain), np.uint8), **arrays)

    @classmethod
    def load(cls, path: Path) -> Statistics:
        made = cls()
        with np.load(path, allow_pickle=False) as saved:
            for place, one in enumerate(made._arrays()):
                one.frombytes(saved[str(place)].astype(one.typecode).tobytes())
            plain = orjson.loads(saved["plain"].tobytes())
        made._tasks.update(plain["tasks"])
        made._languages = Languages.of(plain["languages"])
        made._with_control, made._with_invisible = plain["control"], plain["invisible"]
        return made

    def _arrays(self) -> tuple[array[int], ...]:
        return self._prompts, self._answers, self._turns, self._marks, self._held_out

    def as_dict(self) -> dict[str, Any]:
        """The JSON form."""
        held_out = sum(self._held_out)
        tasks = dict(self._tasks.most_common())
        return {
            "turns": spread(self._turns),
            "prompt_characters": {**spread(self._prompts), "bars": bars(self._prompts)},
            "answer_characters": {**spread(self._answers), "bars": bars(self._answers)},
            "duplicates": self._duplicates(),
            "splits": {"train": len(self._held_out) - held_out, "test": held_out},
            "task_types": tasks,
            "languages": self._languages.as_dict(),
            "rows_with_control_tokens": self._with_control,
            "rows_with_invisible_characters": self._with_invisible,
        }

    def warnings(self) -> list[Problem]:
        """What a person should know, though every row is usable."""
        rows = len(self._marks)
        counted = (
            ("duplicates", self._duplicates()),
            ("held_out_in_training", self._held_out_in_training()),
            ("control_tokens_as_text", self._with_control),
            ("invisible_characters", self._with_invisible),
        )
        found = [problem(code, rows=count) for code, count in counted if count]
        return [problem("few_rows", rows=rows), *found] if 0 < rows < FEW_ROWS else found

    def _duplicates(self) -> int:
        return len(self._marks) - len(_distinct(np.array(self._marks, np.uint64)))

    def _held_out_in_training(self) -> int:
        marks, held_out = np.array(self._marks, np.uint64), np.array(self._held_out, bool)
        return len(np.intersect1d(_distinct(marks[held_out]), _distinct(marks[~held_out]), assume_unique=True))


def _distinct(numbers: Numbers) -> Numbers:
    """The numbers without repetitions; numpy's own way takes ten times as long for a million of them."""
    ordered = np.sort(numbers)
    return ordered[np.append(ordered[1:] != ordered[:-1], True)[: len(ordered)]]


def spread(values: array[int]) -> dict[str, int]:
    """Median, 95th percentile and largest of some counts."""
    if not values:
        return {"median": 0, "p95": 0, "max": 0}
    last = len(values) - 1
    at = (last // 2, round(last * 0.95), last)
    ordered = np.partition(np.array(values), at)
    return {name: int(ordered[place]) for name, place in zip(("median", "p95", "max"), at, strict=True)}


def bars(values: array[int]) -> list[list[int]]:
    """How many values lie in each range, as `[first, last, count]`; ranges grow, so that long tails can be seen."""
    if not values:
        return []
    numbers = np.array(values)
    least, most = int(numbers.min()), int(numbers.max())
    edges = np.unique(np.geomspace(least + 1, most + 2, BARS + 1).round().astype(np.int64)) - 1
    counts, _ = np.histogram(numbers, edges)
    return [[int(low), int(high) - 1, int(n)] for low, high, n in zip(edges[:-1], edges[1:], counts, strict=True)]


def _marks(batch: Batch) -> bytes:
    """A number of 8 bytes for what each row says, whichever part, task or group it belongs to."""
    digests = batch.digests
    if batch.rows and any(batch.table[name].null_count < len(digests) for name in SHARED):
        digests = [digest(canonical({**row, **dict.fromkeys(SHARED)})) for row in batch.rows]
    return b"".join([one[:8] for one in digests])


def _texts(table: pyarrow.Table) -> Texts:
    parts = [_part(table, field) for field in table.schema if field.type == MESSAGES or field.name == "text"]
    content = pyarrow.chunked_array([part[0] for part in parts])
    rows, is_answer = (np.concatenate([part[place] for part in parts]) for place in (1, 2))
    return Texts(content, rows, pc.utf8_length(content).to_numpy(), is_answer)


def _part(table: pyarrow.Table, field: pyarrow.Field) -> tuple[pyarrow.Array, Numbers, Numbers]:
    """The texts of one column, their rows, and whether each is an answer."""
    column = table[field.name].combine_chunks()
    every_row = np.arange(table.num_rows)
    if field.name == "text":
        return column, every_row, np.ones(table.num_rows, bool)
    items = column.flatten()
    rows = np.repeat(every_row, column.value_lengths().to_numpy())
    if field.name == "messages":
        return items.field("content"), rows, pc.equal(items.field("role"), "assistant").to_numpy(zero_copy_only=False)
    return items.field("content"), rows, np.full(len(rows), field.name != "prompt")


def _said(texts: Texts, rows: Numbers) -> list[tuple[str, ...]]:
    """Of each of these rows the beginnings of its longest answer and of its longest other text."""
    longest = (_longest(texts, rows, texts.is_answer), _longest(texts, rows, ~texts.is_answer))
    return list(zip(*longest, strict=True))


def _longest(texts: Texts, rows: Numbers, wanted: Numbers) -> list[str]:
    """The beginning of the longest wanted text of each of these rows; empty where it has none."""
    places = np.flatnonzero(wanted)
    order = places[np.lexsort((texts.lengths[places], texts.rows[places]))]
    best = np.full(rows.max(initial=-1) + 1, -1)
    inside = order[texts.rows[order] < len(best)]
    best[texts.rows[inside]] = inside  # of several for one row the last one stays, the longest
    found = best[rows]
    chosen = texts.content.take(pyarrow.array(found, mask=found < 0))
    beginnings = pc.fill_null(pc.utf8_slice_codeunits(chosen, 0, JUDGED_CHARACTERS), "")
    return list(beginnings.to_pylist())


def _sums(rows: Numbers, values: Numbers, count: int) -> bytes:
    """The sum of the values of each row, as unsigned 32-bit integers."""
    return bytes(np.bincount(rows, values, count).astype(np.uint32).tobytes())


def _with(pattern: str, content: pyarrow.ChunkedArray, rows: Numbers) -> tuple[pyarrow.ChunkedArray, Numbers]:
    """The texts in which a pattern occurs, and their rows."""
    found = pc.match_substring_regex(content, pattern)
    return content.filter(found), rows[found.to_numpy()]
