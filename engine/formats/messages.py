"""Messages: a list of `role` and `content` under `messages`, as chat interfaces take them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from engine.formats.columns import SPLIT, cell, find_columns, share
from engine.formats.messages_of import BadRow, chat_message, conversation, objects_of, split_of
from engine.formats.protocol import Raw, Row
from engine.specs.problem import Problem, problem


class MessagesFormat:
    kind: ClassVar[str] = "messages"
    row_kind: ClassVar[str] = "conversation"
    roles: ClassVar[Mapping[str, Sequence[str]]] = {
        "messages": ("messages", "conversations", "conversation", "dialogue", "chat"),
        "split": SPLIT,
    }
    required: ClassVar[Sequence[str]] = ("messages",)

    def recognise(self, sample: Sequence[Raw]) -> float:
        column = find_columns(sample, self.roles).get("messages")
        return share(sample, lambda raw: column is not None and _looks_like_messages(raw.get(column)))

    def mapping(self, sample: Sequence[Raw]) -> dict[str, str]:
        return find_columns(sample, self.roles)

    def convert(self, raw: Raw, mapping: Mapping[str, str], line: int) -> Row | list[Problem]:
        field = mapping["messages"]
        value = cell(raw, mapping, "messages")
        if value is None:
            return [problem("row_missing_field", field=field, line=line)]
        try:
            messages = [
                chat_message(item, field=field, line=line) for item in objects_of(value, field=field, line=line)
            ]
        except BadRow as error:
            return [error.found]
        found = conversation(messages, field=field, line=line)
        return found or {"messages": messages, "split": split_of(cell(raw, mapping, "split"))}


def _looks_like_messages(value: Any) -> bool:
    if isinstance(value, str):
        return value.lstrip().startswith("[") and '"role"' in value
    return isinstance(value, list) and bool(value) and isinstance(value[0], Mapping) and "role" in value[0]
