"""The prompt and the answer of a canonical row, as texts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from engine.data.rows import Row, kind_of, last_answer

LABEL_CHARACTERS = 40
"""A longer answer is no label."""


def prompt_of(row: Row) -> str:
    """What is asked before the last answer, without system texts."""
    return _joined(_PARTS[kind_of(row)](row)[0])


def answer_of(row: Row) -> str:
    """The last answer; of a pair the chosen one."""
    return _joined(_PARTS[kind_of(row)](row)[1])


def label_of(row: Row) -> str:
    """The label that a row carries: its own, or a short answer; empty where there is none."""
    if row.get("label") is not None:
        return str(row["label"])
    answer = " ".join(answer_of(row).lower().split())
    return answer if len(answer) <= LABEL_CHARACTERS else ""


Turns = list[dict[str, Any]]


def _joined(turns: Turns) -> str:
    return "\n".join(turn["content"] for turn in turns if turn["role"] != "system")


def _conversation(row: Row) -> tuple[Turns, Turns]:
    turns: Turns = row["messages"]
    last = last_answer(turns)
    return (turns, []) if last is None else (turns[:last], [turns[last]])


_PARTS: dict[str, Callable[[Row], tuple[Turns, Turns]]] = {
    "conversation": _conversation,
    "preference": lambda row: (row["prompt"], row["chosen"]),
    "unpaired": lambda row: (row["prompt"], row["completion"]),
    "text": lambda row: ([], [{"role": "", "content": row["text"]}]),
}
"""What comes before the answer, and the answer."""
