"""ShareGPT: a list of `from` and `value` under `conversations`, with an optional `system` beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from engine.formats.columns import Columns, find_columns, share
from engine.formats.messages_of import BadRow, check_conversation, message, objects_of, optional_text, text_of
from engine.formats.protocol import Raw, Recognised, Row
from engine.specs.problem import problem

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
    }
    required: ClassVar[Sequence[str]] = ("conversations",)
    options: ClassVar[Mapping[str, str]] = {}

    def recognise(self, sample: Sequence[Raw]) -> Recognised:
        column = find_columns(sample, self.roles).get("conversations")
        found = share(sample, lambda raw: column is not None and _looks_like_sharegpt(raw.get(column)))
        return Recognised(
            found, [problem("shape_items", column=column, keys="from, value", percent=round(100 * found))]
        )

    def convert(self, raw: Raw, columns: Columns) -> list[Row]:
        field = columns.name("conversations")
        value = columns.cell(raw, "conversations")
        if value is None:
            raise BadRow(problem("row_missing_field", field=field))
        messages = [_message(item, field=field) for item in objects_of(value, field=field)]
        if system := optional_text(columns.cell(raw, "system"), field=columns.name("system")):
            messages.insert(0, message("system", system))
        check_conversation(messages, field=field)
        return [{"messages": messages, "tools": None}]


def _message(item: Mapping[str, Any], *, field: str) -> dict[str, Any]:
    speaker = item.get("from")
    role = SPEAKERS.get(speaker.lower()) if isinstance(speaker, str) else None
    if role is None:
        allowed = ", ".join(SPEAKERS)
        raise BadRow(problem("row_unknown_role", field=f"{field}.from", role=str(speaker)[:60], allowed=allowed))
    content = item.get("value")
    return message(role, "" if content is None else text_of(content, field=f"{field}.value"))


def _looks_like_sharegpt(value: Any) -> bool:
    if isinstance(value, str):
        return value.lstrip().startswith("[") and '"from"' in value
    return isinstance(value, list) and bool(value) and isinstance(value[0], Mapping) and "from" in value[0]
