"""Prompt and completion: two columns of text, or of messages, under any of their usual names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from engine.formats.columns import SPLIT, cell, find_columns, share
from engine.formats.messages_of import BadRow, conversation, message, optional_text, split_of, turns
from engine.formats.protocol import Raw, Row
from engine.specs.problem import Problem, problem


class PromptCompletionFormat:
    kind: ClassVar[str] = "prompt_completion"
    row_kind: ClassVar[str] = "conversation"
    roles: ClassVar[Mapping[str, Sequence[str]]] = {
        "prompt": ("prompt", "question", "query", "input", "source", "user"),
        "completion": ("completion", "response", "answer", "target", "output", "reply", "assistant"),
        "system": ("system", "system_prompt"),
        "split": SPLIT,
    }
    required: ClassVar[Sequence[str]] = ("prompt", "completion")

    def recognise(self, sample: Sequence[Raw]) -> float:
        mapping = find_columns(sample, self.roles)
        if not all(role in mapping for role in self.required):
            return 0.0
        both = share(sample, lambda raw: mapping["prompt"] in raw and mapping["completion"] in raw)
        return 0.9 * both  # the names are common words: a more telling shape goes first

    def mapping(self, sample: Sequence[Raw]) -> dict[str, str]:
        return find_columns(sample, self.roles)

    def convert(self, raw: Raw, mapping: Mapping[str, str], line: int) -> Row | list[Problem]:
        missing = [mapping[role] for role in self.required if mapping[role] not in raw]
        if missing:
            return [problem("row_missing_field", field=field, line=line) for field in missing]
        try:
            system = optional_text(cell(raw, mapping, "system"), field=mapping.get("system", "system"), line=line)
            messages = turns(cell(raw, mapping, "prompt"), "user", field=mapping["prompt"], line=line)
            messages += turns(cell(raw, mapping, "completion"), "assistant", field=mapping["completion"], line=line)
        except BadRow as error:
            return [error.found]
        if system:
            messages.insert(0, message("system", system))
        found = conversation(messages, field=mapping["completion"], line=line)
        return found or {"messages": messages, "split": split_of(cell(raw, mapping, "split"))}
