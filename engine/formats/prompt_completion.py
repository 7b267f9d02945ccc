"""Prompt and completion: two columns of text, or of messages, under any of their usual names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from engine.formats.columns import Columns, find_columns, share
from engine.formats.messages_of import BadRow, check_conversation, message, optional_text, turns
from engine.formats.protocol import Raw, Recognised, Row
from engine.specs.problem import problem


class PromptCompletionFormat:
    kind: ClassVar[str] = "prompt_completion"
    row_kind: ClassVar[str] = "conversation"
    roles: ClassVar[Mapping[str, Sequence[str]]] = {
        "prompt": ("prompt", "question", "query", "input", "source", "user"),
        "completion": ("completion", "response", "answer", "target", "output", "reply", "assistant"),
        "system": ("system", "system_prompt"),
    }
    required: ClassVar[Sequence[str]] = ("prompt", "completion")
    options: ClassVar[Mapping[str, str]] = {}

    def recognise(self, sample: Sequence[Raw]) -> Recognised:
        mapping = find_columns(sample, self.roles)
        if not all(role in mapping for role in self.required):
            return Recognised(0.0)
        names = [mapping[role] for role in self.required]
        both = share(sample, lambda raw: all(name in raw for name in names))
        why = problem("shape_columns", columns=", ".join(names), percent=round(100 * both))
        return Recognised(0.9 * both, [why])  # the names are common words: a more telling shape goes first

    def convert(self, raw: Raw, columns: Columns) -> list[Row]:
        missing = [columns.name(role) for role in self.required if columns.name(role) not in raw]
        if missing:
            raise BadRow(*(problem("row_missing_field", field=field) for field in missing))
        field = columns.name("completion")
        messages = turns(columns.cell(raw, "prompt"), "user", field=columns.name("prompt"))
        messages += turns(columns.cell(raw, "completion"), "assistant", field=field)
        if system := optional_text(columns.cell(raw, "system"), field=columns.name("system")):
            messages.insert(0, message("system", system))
        check_conversation(messages, field=field)
        return [{"messages": messages, "tools": None}]
