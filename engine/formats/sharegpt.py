"""ShareGPT: a list of speakers and what they say (`from`, `value`) under `conversations`; system, tools."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from engine.formats.columns import Columns, find_columns, share
from engine.formats.messages_of import BadRow, check_conversation, objects_of, optional_text, with_system
from engine.formats.protocol import Raw, Recognised, Row
from engine.formats.tools_of import definitions_of
from engine.formats.turns_of import first_item, pair_keys, speaker_keys, spoken_turns
from engine.specs.problem import problem


class ShareGptFormat:
    kind: ClassVar[str] = "sharegpt"
    row_kind: ClassVar[str] = "conversation"
    roles: ClassVar[Mapping[str, Sequence[str]]] = {
        "conversations": ("conversations", "conversation", "messages", "dialogue", "items"),
        "system": ("system", "system_prompt"),
        "tools": ("tools", "functions"),
    }
    required: ClassVar[Sequence[str]] = ("conversations",)
    options: ClassVar[Mapping[str, str]] = {}

    def recognise(self, sample: Sequence[Raw]) -> Recognised:
        column = find_columns(sample, self.roles).get("conversations")
        if column is None:
            return Recognised(0.0)
        keys = [one for raw in sample if (one := _keys(raw.get(column))) is not None]
        all_keys = len(keys) / len(sample)
        own = share(sample, lambda raw: _keys(raw.get(column)) == ("from", "value"))
        named = ", ".join(keys[0]) if keys else "from, value"
        why = problem("shape_items", column=column, keys=named, percent=round(100 * all_keys))
        return Recognised(own + 0.95 * (all_keys - own), [why])  # other keys are other shapes' too

    def convert(self, raw: Raw, columns: Columns) -> list[Row]:
        field = columns.name("conversations")
        value = columns.cell(raw, "conversations")
        if value is None:
            raise BadRow(problem("row_missing_field", field=field))
        messages = [turn for item in objects_of(value, field=field) for turn in spoken_turns(item, field=field)]
        messages = with_system(messages, optional_text(columns.cell(raw, "system"), field=columns.name("system")))
        check_conversation(messages, field=field)
        return [
            {"messages": messages, "tools": definitions_of(columns.cell(raw, "tools"), field=columns.name("tools"))}
        ]


def _keys(value: object) -> tuple[str, str] | None:
    """The keys by which a conversation names its speakers and texts; None where it is no such list."""
    first = first_item(value)
    if first is None:
        return None
    if pair := pair_keys(first):
        return pair
    found = speaker_keys(first)
    return found if found[0] in first and found[1] in first else None
