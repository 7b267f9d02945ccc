"""Messages: a list of `role` and `content` under `messages`, as chat interfaces take them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from engine.formats.columns import Columns, find_columns, share
from engine.formats.messages_of import BadRow, chat_message, check_conversation, objects_of
from engine.formats.protocol import Raw, Recognised, Row
from engine.specs.problem import problem


class MessagesFormat:
    kind: ClassVar[str] = "messages"
    row_kind: ClassVar[str] = "conversation"
    roles: ClassVar[Mapping[str, Sequence[str]]] = {
        "messages": ("messages", "conversations", "conversation", "dialogue", "chat"),
    }
    required: ClassVar[Sequence[str]] = ("messages",)
    options: ClassVar[Mapping[str, str]] = {}

    def recognise(self, sample: Sequence[Raw]) -> Recognised:
        column = find_columns(sample, self.roles).get("messages")
        found = share(sample, lambda raw: column is not None and _looks_like_messages(raw.get(column)))
        return Recognised(
            found, [problem("shape_items", column=column, keys="role, content", percent=round(100 * found))]
        )

    def convert(self, raw: Raw, columns: Columns) -> list[Row]:
        field = columns.name("messages")
        value = columns.cell(raw, "messages")
        if value is None:
            raise BadRow(problem("row_missing_field", field=field))
        messages = [chat_message(item, field=field) for item in objects_of(value, field=field)]
        check_conversation(messages, field=field)
        return [{"messages": messages, "tools": None}]


def _looks_like_messages(value: Any) -> bool:
    if isinstance(value, str):
        return value.lstrip().startswith("[") and '"role"' in value
    return isinstance(value, list) and bool(value) and isinstance(value[0], Mapping) and "role" in value[0]
