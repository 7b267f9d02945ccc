"""Alpaca: `instruction`, an optional `input`, and `output`; earlier turns under `history`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from engine.formats.columns import SPLIT, cell, find_columns, share
from engine.formats.messages_of import BadRow, conversation, message, optional_text, split_of, text_of
from engine.formats.protocol import Raw, Row
from engine.specs.problem import Problem, problem


class AlpacaFormat:
    kind: ClassVar[str] = "alpaca"
    row_kind: ClassVar[str] = "conversation"
    roles: ClassVar[Mapping[str, Sequence[str]]] = {
        "instruction": ("instruction",),
        "input": ("input", "context"),
        "output": ("output", "response", "answer"),
        "system": ("system", "system_prompt"),
        "history": ("history",),
        "split": SPLIT,
    }
    required: ClassVar[Sequence[str]] = ("instruction", "output")

    def recognise(self, sample: Sequence[Raw]) -> float:
        mapping = find_columns(sample, self.roles)
        if not all(role in mapping for role in self.required):
            return 0.0
        return share(sample, lambda raw: mapping["instruction"] in raw and mapping["output"] in raw)

    def mapping(self, sample: Sequence[Raw]) -> dict[str, str]:
        return find_columns(sample, self.roles)

    def convert(self, raw: Raw, mapping: Mapping[str, str], line: int) -> Row | list[Problem]:
        try:
            messages = _messages(raw, mapping, line)
        except BadRow as error:
            return [error.found]
        found = conversation(messages, field=mapping["output"], line=line)
        return found or {"messages": messages, "split": split_of(cell(raw, mapping, "split"))}


def _messages(raw: Raw, mapping: Mapping[str, str], line: int) -> list[dict[str, Any]]:
    def text(role: str) -> str:
        return optional_text(cell(raw, mapping, role), field=mapping.get(role, role), line=line)

    for role in ("instruction", "output"):
        if mapping[role] not in raw:
            raise BadRow(problem("row_missing_field", field=mapping[role], line=line))
    question = "\n\n".join(part for part in (text("instruction"), text("input")) if part)
    answers = cell(raw, mapping, "output")
    if isinstance(answers, list) and len(answers) == 1:
        answers = answers[0]
    messages = _history(raw, mapping, line)
    messages += [
        message("user", question),
        message("assistant", optional_text(answers, field=mapping["output"], line=line)),
    ]
    return [message("system", system), *messages] if (system := text("system")) else messages


def _history(raw: Raw, mapping: Mapping[str, str], line: int) -> list[dict[str, Any]]:
    history = cell(raw, mapping, "history")
    if history is None:
        return []
    field = mapping["history"]
    if not isinstance(history, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in history):
        raise BadRow(problem("row_bad_history", field=field, line=line))
    turns = []
    for question, answer in history:
        turns.append(message("user", text_of(question, field=field, line=line)))
        turns.append(message("assistant", text_of(answer, field=field, line=line)))
    return turns
