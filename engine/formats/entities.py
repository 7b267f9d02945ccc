"""Entities and their facts, which become texts: facts are taken in by reading on, not by answering questions.

An answer teaches a way of answering; what was said in one answer is recalled in that wording alone. A person who wants
question and answer writes them, in several wordings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from engine.formats.columns import Columns
from engine.formats.messages_of import BadRow, check_characters, json_cell, kind_of, optional_text, text_of
from engine.formats.protocol import Raw, Recognised, Row
from engine.formats.recognising import by_columns
from engine.specs.problem import problem

RELATION_KEYS = ("relation", "predicate", "property", "attribute")
VALUE_KEYS = ("object", "value")


class EntitiesFormat:
    kind: ClassVar[str] = "entities"
    row_kind: ClassVar[str] = "text"
    roles: ClassVar[Mapping[str, Sequence[str]]] = {
        "entity": ("entity", "subject", "name", "title"),
        "facts": ("facts", "fact", "statements"),
    }
    required: ClassVar[Sequence[str]] = ("entity", "facts")
    options: ClassVar[Mapping[str, str]] = {}

    def recognise(self, sample: Sequence[Raw]) -> Recognised:
        return by_columns(sample, self.roles, self.required)

    def convert(self, raw: Raw, columns: Columns) -> list[Row]:
        for role in self.required:
            if columns.name(role) not in raw:
                raise BadRow(problem("row_missing_field", field=columns.name(role)))
        entity = optional_text(columns.cell(raw, "entity"), field=columns.name("entity")).strip()
        if not entity:
            raise BadRow(problem("row_empty_text", field=columns.name("entity")))
        field = columns.name("facts")
        facts = [fact for fact in _facts(columns.cell(raw, "facts"), field=field) if fact.strip()]
        if not facts:
            raise BadRow(problem("row_empty_text", field=field))
        text = "\n".join((entity, *facts))
        check_characters(text, field=field)
        return [{"text": text}]


def _facts(value: Any, *, field: str) -> list[str]:
    """Facts as sentences or as "relation: value", given one by one, as a list, or as an object of relations."""
    value = json_cell(value, field=field)
    if value is None or isinstance(value, str):
        return [optional_text(value, field=field)]
    if isinstance(value, Mapping):
        return [f"{name}: {text_of(said, field=f'{field}.{name}')}" for name, said in value.items()]
    if not isinstance(value, list):
        raise BadRow(problem("row_not_text", field=field, given=kind_of(value)))
    return [_fact(item, field=field) for item in value]


def _fact(item: Any, *, field: str) -> str:
    if not isinstance(item, Mapping):
        return text_of(item, field=field)
    relation = next((item[key] for key in RELATION_KEYS if key in item), None)
    said = next((item[key] for key in VALUE_KEYS if key in item), None)
    return f"{text_of(relation, field=field)}: {text_of(said, field=field)}"
