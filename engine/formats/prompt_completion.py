"""Prompt and completion: two columns of text, or of messages, under any of their usual names; also several answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from engine.formats.columns import Columns
from engine.formats.messages_of import BadRow, check_conversation, optional_text, with_system
from engine.formats.protocol import Raw, Recognised, Row
from engine.formats.recognising import by_columns
from engine.formats.tools_of import definitions_of
from engine.formats.turns_of import turns
from engine.specs.problem import problem


class PromptCompletionFormat:
    kind: ClassVar[str] = "prompt_completion"
    row_kind: ClassVar[str] = "conversation"
    roles: ClassVar[Mapping[str, Sequence[str]]] = {
        "prompt": ("prompt", "question", "query", "input", "inputs", "source", "user", "problem"),
        "completion": (
            *("completion", "response", "answer", "target", "targets", "output", "reply", "assistant", "solution"),
            *("completions", "responses", "answers", "outputs"),
        ),
        "system": ("system", "system_prompt"),
        "tools": ("tools", "functions"),
    }
    required: ClassVar[Sequence[str]] = ("prompt", "completion")
    options: ClassVar[Mapping[str, str]] = {}

    def recognise(self, sample: Sequence[Raw]) -> Recognised:
        return by_columns(sample, self.roles, self.required, sure=0.9)  # common words: a more telling shape goes first

    def convert(self, raw: Raw, columns: Columns) -> list[Row]:
        missing = [columns.name(role) for role in self.required if columns.name(role) not in raw]
        if missing:
            raise BadRow(*(problem("row_missing_field", field=field) for field in missing))
        field = columns.name("completion")
        prompt = turns(columns.cell(raw, "prompt"), "user", field=columns.name("prompt"))
        prompt = with_system(prompt, optional_text(columns.cell(raw, "system"), field=columns.name("system")))
        tools = definitions_of(columns.cell(raw, "tools"), field=columns.name("tools"))
        rows = []
        for completion in _answers(columns.cell(raw, "completion")):
            messages = [*prompt, *turns(completion, "assistant", field=field)]
            check_conversation(messages, field=field)
            rows.append({"messages": messages, "tools": tools})
        return rows


def _answers(value: Any) -> list[Any]:
    """The answers that are each learned: several where the value is a list of texts."""
    several = isinstance(value, list) and bool(value) and all(isinstance(item, str) for item in value)
    return value if several else [value]
