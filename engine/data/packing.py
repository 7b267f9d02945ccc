"""Packed sequences: several rows in one, none of which sees another. What is shown is what the trainer packs."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from engine.data.render import Renderer
from engine.data.rendered import NOT_TRAINED

PACKED_AT_ONCE = 1000
"""Rows that the library packs together: the batch of its `map`."""


def pack(rows: Any, max_length: int, task_types: Sequence[str] = ()) -> Any:
    """Pack a dataset of token rows, best fit first; `seq_lengths` tells where one row ends.

    With several `task_types`, `tasks` tells the place of each token's among them.
    """
    from trl.data_utils import pack_dataset

    if len(task_types) > 1:
        rows = rows.map(lambda row: {"tasks": [place_of(row["task_type"], task_types)] * len(row["input_ids"])})
    lists = [name for name in ("input_ids", "labels", "prompt", "tasks") if name in rows.column_names]
    return pack_dataset(rows.select_columns(lists), seq_length=max_length, strategy="bfd")


def place_of(task_type: str, task_types: Sequence[str]) -> int:
    """The place of a row's task type among the named ones; behind the last one for any other."""
    return task_types.index(task_type) if task_type in task_types else len(task_types)


def view_packed(path: Path, max_length: int, index: int, renderer: Renderer) -> dict[str, Any]:
    """One packed sequence of stored token rows for the token view, and where each of its rows begins.

    Raises:
        IndexError: there are fewer.
    """
    from datasets import Dataset

    packed = pack(Dataset.from_parquet(str(path)), max_length)
    if not 0 <= index < len(packed):
        raise IndexError(len(packed))
    found = packed[index]
    starts = [0, *accumulate(found["seq_lengths"])][:-1]
    ids, labels = found["input_ids"], found["labels"]
    tokens = [
        {"id": token, "text": text, "trained": on, "state": "trained" if on else "context"}
        for token, text, on in zip(ids, renderer.texts(ids), _trained(labels, starts), strict=True)
    ]
    return {
        "index": index,
        "sequences": len(packed),
        "rows": [
            {"start": start, "num_tokens": count} for start, count in zip(starts, found["seq_lengths"], strict=True)
        ],
        "tokens": tokens,
        "num_tokens": len(tokens),
        "num_trained": sum(token["trained"] for token in tokens),
        "num_cut": 0,
    }


def _trained(labels: Sequence[int], starts: Sequence[int]) -> list[bool]:
    """Which tokens carry loss: nothing predicts the first of a row."""
    first = set(starts)
    return [label != NOT_TRAINED and place not in first for place, label in enumerate(labels)]


def packed_sequences(row_lengths: Sequence[int], max_length: int) -> int:
    """How many sequences best-fit-decreasing packing makes of the rows, as the library does it."""
    total = 0
    for start in range(0, len(row_lengths), PACKED_AT_ONCE):
        room: list[int] = []
        for length in sorted(row_lengths[start : start + PACKED_AT_ONCE], reverse=True):
            place = bisect_left(room, min(length, max_length))
            left = room.pop(place) if place < len(room) else max_length
            insort(room, left - min(length, max_length))
        total += len(room)
    return total
