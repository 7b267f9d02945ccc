"""The question and the answer that a recipe works on: the last answer of a conversation and the question before it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from engine.data.drafting.protocol import Unit
from engine.data.rows import Row, last_answer

Turns = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Asked:
    """`before`: the turns up to the question, which is not among them; all as the row has them."""

    number: int
    row: Row
    before: Turns
    question: dict[str, Any]
    answer: dict[str, Any]
    after: Turns
    """What follows the answer."""

    @property
    def texts(self) -> dict[str, str]:
        """What prompts may name."""
        return {"question": self.question["content"], "answer": self.answer["content"]}

    @property
    def shown(self) -> str:
        """The question with what was said before it, for a person or a judge to read."""
        return "\n\n".join([*(f"[{turn['role']}] {turn['content']}" for turn in self.before), self.question["content"]])


def asked(rows: Iterable[Row]) -> Iterator[Asked | None]:
    """Each row's last question with its answer; None where an answer does not follow a question at once."""
    return (_asked(number, row) for number, row in enumerate(rows))


def question_of(unit: Unit) -> Asked:
    """The same of a unit that was made from it."""
    found = _asked(unit.row_number, unit.row)
    assert found is not None
    return found


def _asked(number: int, row: Row) -> Asked | None:
    turns: Turns = row["messages"]
    last = last_answer(turns)
    if last and turns[last - 1]["role"] == "user" and turns[last - 1]["content"].strip():
        return Asked(number, row, turns[: last - 1], turns[last - 1], turns[last], turns[last + 1 :])
    return None
