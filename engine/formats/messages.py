"""Messages: a list of `role` and `content` under `messages`, as chat interfaces take them, with the tools they call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from engine.formats.columns import Columns, find_columns, share
from engine.formats.messages_of import (
    BadRow,
    check_conversation,
    objects_of,
    optional_text,
    plain_conversation,
    with_system,
)
from engine.formats.protocol import Raw, Recognised, Row
from engine.formats.tools_of import definitions_of
from engine.formats.turns_of import ROLES, SPEAKERS, chat_message, first_item
from engine.specs.problem import problem


class MessagesFormat:
    kind: ClassVar[str] = "messages"
    row_kind: ClassVar[str] = "conversation"
    roles: ClassVar[Mapping[str, Sequence[str]]] = {
        "messages": ("messages", "conversations", "conversation", "dialogue", "chat"),
        "tools": ("tools", "functions"),
        "system": ("system", "system_prompt"),
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
        system, tools = columns.cell(raw, "system"), columns.cell(raw, "tools")
        if system is None and tools is None and (plain := plain_conversation(value, field=f"{field}.content")):
            return [{"messages": plain, "tools": None}]
        messages = [chat_message(item, field=field) for item in objects_of(value, field=field)]
        messages = with_system(messages, optional_text(system, field=columns.name("system")))
        check_conversation(messages, field=field)
        return [{"messages": messages, "tools": definitions_of(tools, field=columns.name("tools"))}]


def _looks_like_messages(value: Any) -> bool:
    """Whether the first item has a role, and not one by which other shapes call their speakers."""
    first = first_item(value)
    if first is None or "role" not in first:
        return False
    role = first["role"]
    return role in ROLES or role not in SPEAKERS if isinstance(role, str) else True
