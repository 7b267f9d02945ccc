"""Classification: a text and its label, which become a question with an instruction and an answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from engine.formats.columns import Columns
from engine.formats.messages_of import BadRow, check_conversation, message, optional_text, short
from engine.formats.protocol import Raw, Recognised, Row
from engine.formats.recognising import by_columns
from engine.specs.problem import problem

MAX_NAMED_LABELS = 20


class ClassificationFormat:
    kind: ClassVar[str] = "classification"
    row_kind: ClassVar[str] = "conversation"
    roles: ClassVar[Mapping[str, Sequence[str]]] = {
        "text": ("text", "sentence", "review", "utterance", "tweet", "comment", "content", "document"),
        "label": ("label", "class", "category", "intent", "sentiment", "label_text"),
    }
    required: ClassVar[Sequence[str]] = ("text", "label")
    options: ClassVar[Mapping[str, str]] = {
        "instruction": "Which label fits this text? Answer with the label alone.",
        "labels": "",
    }

    def recognise(self, sample: Sequence[Raw]) -> Recognised:
        return by_columns(sample, self.roles, self.required, sure=0.95, test=_fits)

    def convert(self, raw: Raw, columns: Columns) -> list[Row]:
        for role in self.required:
            if columns.name(role) not in raw:
                raise BadRow(problem("row_missing_field", field=columns.name(role)))
        text = optional_text(columns.cell(raw, "text"), field=columns.name("text"))
        if not text.strip():
            raise BadRow(problem("row_empty_question", field=columns.name("text")))
        question = "\n\n".join(part for part in (columns.options["instruction"].strip(), text) if part)
        names = [name.strip() for name in columns.options["labels"].split(",") if name.strip()]
        field = columns.name("label")
        answer = _label(columns.cell(raw, "label"), names, field=field)
        messages = [message("user", question), message("assistant", answer)]
        check_conversation(messages, field=field)
        return [{"messages": messages, "tools": None}]


def _fits(raw: Raw, mapping: Mapping[str, str]) -> bool:
    return isinstance(raw[mapping["text"]], str) and isinstance(raw[mapping["label"]], str | int | None)


def _label(value: Any, names: Sequence[str], *, field: str) -> str:
    """The label as text. A number is a place in the names, which must have been given: it is no text by itself."""
    if isinstance(value, int) and not names:
        raise BadRow(problem("row_label_number", field=field, given=int(value)))
    number = value if isinstance(value, int) else int(value) if _is_number(value) and value not in names else None
    if names and number is not None and 0 <= number < len(names):
        return names[number]
    label = str(value) if number is not None else optional_text(value, field=field)
    if label and names and label not in names:
        allowed = ", ".join(names[:MAX_NAMED_LABELS])
        raise BadRow(problem("row_unknown_label", field=field, given=short(value), allowed=allowed))
    return label


def _is_number(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= 9 and value.isascii() and value.isdigit()
