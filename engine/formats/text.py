"""Plain text to be learned whole: one column of it, or documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from engine.formats.columns import Columns
from engine.formats.messages_of import BadRow, optional_text
from engine.formats.protocol import Raw, Recognised, Row
from engine.formats.recognising import by_columns
from engine.specs.problem import problem


class TextFormat:
    kind: ClassVar[str] = "text"
    row_kind: ClassVar[str] = "text"
    roles: ClassVar[Mapping[str, Sequence[str]]] = {
        "text": ("text", "content", "document", "body", "page_content", "passage", "article", "markdown")
    }
    required: ClassVar[Sequence[str]] = ("text",)
    options: ClassVar[Mapping[str, str]] = {}

    def recognise(self, sample: Sequence[Raw]) -> Recognised:
        # Less sure than others: a text stands beside the columns of many shapes.
        return by_columns(
            sample, self.roles, self.required, sure=0.7, test=lambda raw, to: isinstance(raw[to["text"]], str)
        )

    def convert(self, raw: Raw, columns: Columns) -> list[Row]:
        field = columns.name("text")
        if field not in raw:
            raise BadRow(problem("row_missing_field", field=field))
        text = optional_text(columns.cell(raw, "text"), field=field)
        if not text.strip():
            raise BadRow(problem("row_empty_text", field=field))
        return [{"text": text}]
