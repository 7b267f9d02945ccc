"""ShareGPT: a list of `from` and `value` under `conversations`, with an optional `system` beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from engine.formats.columns import SPLIT, cell, find_columns, share
from engine.formats.messages_of import BadRow, conversation, message, objects_of, optional_text, split_of, text_of
from engine.formats.protocol import Raw, Row
from engine.specs.problem import Problem, problem

SPEAKERS = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "model": "assistant",
    "system": "system",
}


class ShareGptFormat:
    kind: ClassVar[str] = "sharegpt"
    row_kind: ClassVar[str] = "conversation"
    roles: ClassVar[Mapping[str, Sequence[str]]] = {
        "conversations": ("conversations", "conversation", "messages", "items"),
        "system": ("system", "system_prompt"),
        "split": SPLIT,
    }
    required: ClassVar[Sequence[str]] = ("conversations",)

    def recognise(self, sample: Sequence[Raw]) -> float:
        column = find_columns(sample, self.roles).get("conversations")
        return share(sample, lambda raw: column is not None and _looks_like_sharegpt(raw.get(column)))

    def mapping(self, sample: Sequence[Raw]) -> dict[str, str]:
        return find_columns(sample, self.roles)

    def convert(self, raw: Raw, mapping: Mapping[str, str], line: int) -> Row | list[Problem]:
        field = mapping["conversations"]
        value = cell(raw, mapping, "conversations")
        if value is None:
            return [problem("row_missing_field", field=field, line=line)]
        try:
            messages = [_message(item, field=field, line=line) for item in objects_of(value, field=field, line=line)]
            system = optional_text(cell(raw, mapping, "system"), field=mapping.get("system", "system"), line=line)
        except BadRow as error:
            return [error.found]
        if system:
            messages.insert(0, message("system", system))
        found = conversation(messages, field=field, line=line)
        return found or {"messages": messages, "split": split_of(cell(raw, mapping, "split"))}


def _message(item: Mapping[str, Any], *, field: str, line: int) -> dict[str, Any]:
    speaker = item.get("from")
    role = SPEAKERS.get(speaker.lower()) if isinstance(speaker, str) else None
    if role is None:
        allowed = ", ".join(SPEAKERS)
        raise BadRow(
            problem("row_unknown_role", field=f"{field}.from", line=line, role=str(speaker)[:60], allowed=allowed)
        )
    content = item.get("value")
    return message(role, "" if content is None else text_of(content, field=f"{field}.value", line=line))


def _looks_like_sharegpt(value: Any) -> bool:
    if isinstance(value, str):
        return value.lstrip().startswith("[") and '"from"' in value
    return isinstance(value, list) and bool(value) and isinstance(value[0], Mapping) and "from" in value[0]
