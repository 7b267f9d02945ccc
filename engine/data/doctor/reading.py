"""A stored version as the doctor sees it: of each row what is given, what is answered, and hashes of both."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow
import pyarrow.parquet as pq

from engine.data.rows import BATCH_ROWS, SHARED, TEST, files_of

Turn = tuple[str, str, str]
"""Role, content and tool calls."""
NONE = ""
ABSENT = dict.fromkeys((*SHARED, "tools", "label", "score"))
"""What rows of the first schema do not have."""


class Seen(NamedTuple):
    """A row. Its hashes have 64 bits."""

    number: int
    """Counts from 0."""
    given: tuple[str, ...]
    """Contents that the model is given, system texts and tools' answers included."""
    answers: tuple[str, ...]
    """Contents that it is to give, of a pair both."""
    prompt: str
    """What is asked before the last answer, without system texts."""
    answer: str
    """The last answer; of a pair the chosen one."""
    mark: int
    """The hash of all that the row says."""
    asked: int
    """The hash of what comes before the last answer, or of what is judged; white space between words is one space."""
    claim: str
    """What the row says about what is asked: the answer, the label, or which side is chosen."""
    held_out: bool
    task_type: str | None

    @property
    def texts(self) -> tuple[str, ...]:
        """All contents."""
        return (*self.given, *self.answers)


def hash64(*parts: str) -> int:
    """A hash of texts that is the same on every machine."""
    return int.from_bytes(hashlib.blake2b("\0".join(parts).encode(), digest_size=8).digest(), "little")


def squeezed(text: str) -> str:
    """The text with one space wherever it has white space, and none around it."""
    return " ".join(text.split())


def iterate_seen(path: Path) -> Iterator[Seen]:
    """All rows of a stored version, in order."""
    index = 0
    for part in files_of(path):
        with pq.ParquetFile(part, pre_buffer=False) as file:  # else it keeps all that it has read
            names = set(file.schema_arrow.names)
            make = next(maker for key, maker in MAKERS.items() if key in names)
            for batch in file.iter_batches(batch_size=BATCH_ROWS):
                columns = {name: _values(batch.column(name)) for name in names}
                for place in range(batch.num_rows):
                    row = {name: column[place] for name, column in columns.items()}
                    yield make(index, {**ABSENT, **row})
                    index += 1


def _values(column: Any) -> list[Any]:
    """A column as a list; messages as turns, several times as fast as the library's own way."""
    if not pyarrow.types.is_list(column.type):
        values: list[Any] = column.to_pylist()
        return values
    items = column.values
    known = {field.name for field in items.type}
    parts = [items.field(name).to_pylist() for name in ("role", "content", "tool_calls") if name in known]
    parts += [[None] * len(items)] * (3 - len(parts))  # versions of the first schema have no tool calls
    turns = [(role, content or NONE, calls or NONE) for role, content, calls in zip(*parts, strict=True)]
    ends = column.offsets.to_pylist()
    return [turns[start:end] for start, end in pairwise(ends)]


def _said(turn: Turn) -> str:
    """The content, or the tool calls of a turn that has nothing else."""
    return turn[1] or turn[2]


def _joined(turns: list[Turn]) -> str:
    return "\n".join(_said(turn) for turn in turns if turn[0] != "system")


def _flat(turns: list[Turn]) -> list[str]:
    return [part for turn in turns for part in turn]


def _conversation(index: int, row: dict[str, Any]) -> Seen:
    turns: list[Turn] = row["messages"]
    last = max((place for place, turn in enumerate(turns) if turn[0] == "assistant"), default=len(turns))
    before, after = turns[:last], turns[last:]
    answer = _said(after[0]) if after else NONE
    tools = row["tools"] or NONE
    return Seen(
        index,
        tuple(_said(turn) for turn in turns if turn[0] != "assistant"),
        tuple(_said(turn) for turn in turns if turn[0] == "assistant"),
        _joined(before),
        answer,
        hash64(tools, *_flat(turns)),
        hash64(tools, *map(squeezed, _flat(before))),
        squeezed(answer),
        row["split"] == TEST,
        row["task_type"],
    )


def _preference(index: int, row: dict[str, Any]) -> Seen:
    prompt, chosen, rejected = row["prompt"], row["chosen"], row["rejected"]
    sides = [_joined(chosen), _joined(rejected)]
    asked = [row["tools"] or NONE, *_flat(prompt)]
    return Seen(
        index,
        tuple(_said(turn) for turn in prompt),
        tuple(_said(turn) for turn in (*chosen, *rejected) if turn[0] == "assistant"),
        _joined(prompt),
        sides[0],
        hash64(*asked, NONE, *_flat(chosen), NONE, *_flat(rejected)),
        hash64(*map(squeezed, asked), *map(squeezed, sorted(sides))),
        "first" if sides[0] <= sides[1] else "second",
        row["split"] == TEST,
        row["task_type"],
    )


def _unpaired(index: int, row: dict[str, Any]) -> Seen:
    prompt, completion = row["prompt"], row["completion"]
    claim = f"{row['label']} {row['score']}"
    asked = hash64(*map(squeezed, _flat(prompt)), NONE, *map(squeezed, _flat(completion)))
    return Seen(
        index,
        tuple(_said(turn) for turn in prompt),
        tuple(_said(turn) for turn in completion),
        _joined(prompt),
        _joined(completion),
        hash64(*_flat(prompt), NONE, *_flat(completion), claim),
        asked,
        claim,
        row["split"] == TEST,
        row["task_type"],
    )


def _text(index: int, row: dict[str, Any]) -> Seen:
    text = row["text"]
    held_out = row["split"] == TEST
    return Seen(index, (), (text,), NONE, text, hash64(text), hash64(squeezed(text)), NONE, held_out, row["task_type"])


MAKERS: dict[str, Callable[[int, dict[str, Any]], Seen]] = {
    "messages": _conversation,
    "chosen": _preference,
    "completion": _unpaired,
    "text": _text,
}
"""The column that tells a kind of rows → how a row of it is seen."""
