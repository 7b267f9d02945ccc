"""Answers judged one by one: a prompt, a completion, and whether it is good; the prompt may stand in the completion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from engine.formats.columns import Columns, find_columns, share
from engine.formats.judged import unpaired
from engine.formats.messages_of import BadRow, optional_text, short, with_system
from engine.formats.protocol import Raw, Recognised, Row
from engine.formats.recognising import by_columns
from engine.formats.turns_of import prompt_turns, turns
from engine.specs.problem import problem

WORDS = {"true": True, "false": False, "1": True, "0": False}


class KtoFormat:
    kind: ClassVar[str] = "kto"
    row_kind: ClassVar[str] = "unpaired"
    roles: ClassVar[Mapping[str, Sequence[str]]] = {
        "prompt": ("prompt", "question", "instruction", "query", "input"),
        "input": ("input", "context"),
        "completion": ("completion", "response", "output", "answer", "messages", "conversations"),
        "label": ("label", "kto_tag", "desirable", "is_good"),
        "system": ("system", "system_prompt"),
    }
    required: ClassVar[Sequence[str]] = ("completion", "label")
    options: ClassVar[Mapping[str, str]] = {}

    def recognise(self, sample: Sequence[Raw]) -> Recognised:
        label = find_columns(sample, self.roles).get("label", "")
        plain = share(sample, lambda raw: isinstance(raw.get(label), bool))
        # Only true and false say for sure that an answer is judged: 0 and 1 stand for many things.
        sure = 1.0 if plain else 0.95
        return by_columns(sample, self.roles, self.required, sure=sure, test=lambda raw, to: _judged(raw[to["label"]]))

    def convert(self, raw: Raw, columns: Columns) -> list[Row]:
        for role in self.required:
            if columns.name(role) not in raw:
                raise BadRow(problem("row_missing_field", field=columns.name(role)))
        label = columns.cell(raw, "label")
        if not _judged(label):
            raise BadRow(problem("row_bad_label", field=columns.name("label"), given=short(label)))
        completion = turns(columns.cell(raw, "completion"), "assistant", field=columns.name("completion"))
        given = columns.cell(raw, "prompt")
        prompt = [] if given is None else prompt_turns(given, field=columns.name("prompt"))
        if more := optional_text(columns.cell(raw, "input"), field=columns.name("input")):
            prompt[-1:] = [{**item, "content": f"{item['content']}\n\n{more}"} for item in prompt[-1:]]
        prompt = with_system(prompt, optional_text(columns.cell(raw, "system"), field=columns.name("system")))
        judgement = WORDS[label.lower()] if isinstance(label, str) else bool(label)
        return [unpaired(prompt, completion, field=columns.name("completion"), label=judgement)]


def _judged(value: Any) -> bool:
    return value.lower() in WORDS if isinstance(value, str) else isinstance(value, int) and value in (0, 1)
