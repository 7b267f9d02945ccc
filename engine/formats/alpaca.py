"""Alpaca: `instruction`, an optional `input`, and `output`; earlier turns under `history`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from engine.formats.columns import Columns, find_columns, share
from engine.formats.messages_of import BadRow, check_conversation, message, optional_text, text_of
from engine.formats.protocol import Raw, Recognised, Row
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
        mapping = find_columns(sample, self.roles)
        if not all(role in mapping for role in self.required):
            return Recognised(0.0)
        names = [mapping[role] for role in self.required]
        found = share(sample, lambda raw: all(name in raw for name in names))
        return Recognised(found, [problem("shape_columns", columns=", ".join(names), percent=round(100 * found))])

    def convert(self, raw: Raw, columns: Columns) -> list[Row]:
        for role in self.required:
            if columns.name(role) not in raw:
                raise BadRow(problem("row_missing_field", field=columns.name(role)))

        def text(role: str) -> str:
            return optional_text(columns.cell(raw, role), field=columns.name(role))

        question = "\n\n".join(part for part in (text("instruction"), text("input")) if part)
        messages = [*_history(raw, columns), message("user", question)]
        if system := text("system"):
            messages.insert(0, message("system", system))
        given = columns.cell(raw, "output")
        field = columns.name("output")
        rows = []
        for output in given if isinstance(given, list) and given else [given]:
            answered = [*messages, message("assistant", optional_text(output, field=field))]
            check_conversation(answered, field=field)
            rows.append({"messages": answered, "tools": None})
        return rows


def _history(raw: Raw, columns: Columns) -> list[dict[str, Any]]:
    history = columns.cell(raw, "history")
    if history is None:
        return []
    field = columns.name("history")
    if not isinstance(history, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in history):
        raise BadRow(problem("row_bad_history", field=field))
    turns = []
    for question, answer in history:
        turns.append(message("user", text_of(question, field=field)))
        turns.append(message("assistant", text_of(answer, field=field)))
    return turns
