"""Alpaca: `instruction`, an optional `input`, and `output`; earlier turns under `history`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from engine.formats.columns import Columns
from engine.formats.messages_of import (
    BadRow,
    check_conversation,
    json_cell,
    message,
    optional_text,
    text_of,
    with_system,
)
from engine.formats.protocol import Raw, Recognised, Row
from engine.formats.recognising import by_columns
from engine.specs.problem import problem


class AlpacaFormat:
    kind: ClassVar[str] = "alpaca"
    row_kind: ClassVar[str] = "conversation"
    roles: ClassVar[Mapping[str, Sequence[str]]] = {
        "instruction": ("instruction",),
        "input": ("input", "context"),
        "output": ("output", "response", "answer"),
        "system": ("system", "system_prompt"),
        "history": ("history",),
    }
    required: ClassVar[Sequence[str]] = ("instruction", "output")
    options: ClassVar[Mapping[str, str]] = {}

    def recognise(self, sample: Sequence[Raw]) -> Recognised:
        return by_columns(sample, self.roles, self.required)

    def convert(self, raw: Raw, columns: Columns) -> list[Row]:
        for role in self.required:
            if columns.name(role) not in raw:
                raise BadRow(problem("row_missing_field", field=columns.name(role)))

        def text(role: str) -> str:
            return optional_text(columns.cell(raw, role), field=columns.name(role))

        question = "\n\n".join(part for part in (text("instruction"), text("input")) if part)
        messages = with_system([*_history(raw, columns), message("user", question)], text("system"))
        given = columns.cell(raw, "output")
        field = columns.name("output")
        rows = []
        for output in given if isinstance(given, list) and given else [given]:
            answered = [*messages, message("assistant", optional_text(output, field=field))]
            check_conversation(answered, field=field)
            rows.append({"messages": answered, "tools": None})
        return rows


def _history(raw: Raw, columns: Columns) -> list[dict[str, Any]]:
    field = columns.name("history")
    history = json_cell(columns.cell(raw, "history"), field=field)
    if history is None:
        return []
    if not isinstance(history, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in history):
        raise BadRow(problem("row_bad_history", field=field))
    turns = []
    for question, answer in history:
        turns.append(message("user", text_of(question, field=field)))
        turns.append(message("assistant", text_of(answer, field=field)))
    return turns
