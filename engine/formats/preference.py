"""Preference pairs: `prompt`, `chosen` and `rejected`, texts or messages; the prompt may stand in both answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from engine.formats.columns import Columns, find_columns, share
from engine.formats.messages_of import BadRow, faults_of, message, optional_text, turns
from engine.formats.protocol import Raw, Recognised, Row
from engine.specs.problem import Problem, problem

Messages = list[dict[str, Any]]


class PreferenceFormat:
    kind: ClassVar[str] = "preference"
    row_kind: ClassVar[str] = "preference"
    roles: ClassVar[Mapping[str, Sequence[str]]] = {
        "prompt": ("prompt", "question", "instruction", "query", "input"),
        "chosen": ("chosen", "preferred", "accepted"),
        "rejected": ("rejected", "dispreferred"),
        "system": ("system", "system_prompt"),
    }
    required: ClassVar[Sequence[str]] = ("chosen", "rejected")
    options: ClassVar[Mapping[str, str]] = {}

    def recognise(self, sample: Sequence[Raw]) -> Recognised:
        mapping = find_columns(sample, self.roles)
        if not all(role in mapping for role in self.required):
            return Recognised(0.0)
        names = [mapping[role] for role in self.required]
        found = share(sample, lambda raw: all(name in raw for name in names))
        return Recognised(found, [problem("shape_columns", columns=", ".join(names), percent=round(100 * found))])

    def convert(self, raw: Raw, columns: Columns) -> list[Row]:
        prompt, chosen, rejected = _sides(raw, columns)
        field = columns.name("rejected")
        found = [*_whole(prompt, chosen, field=columns.name("chosen")), *_whole(prompt, rejected, field=field)]
        if not found and chosen == rejected:
            found = [problem("row_same_answers", field=field)]
        if found:
            raise BadRow(*_once(found))
        return [{"prompt": prompt, "chosen": chosen, "rejected": rejected, "tools": None}]


def _sides(raw: Raw, columns: Columns) -> tuple[Messages, Messages, Messages]:
    for role in ("chosen", "rejected"):
        if columns.cell(raw, role) is None:
            code = "row_missing_field" if columns.name(role) not in raw else "row_empty_answer"
            raise BadRow(problem(code, field=columns.name(role)))
    chosen, rejected = (
        turns(columns.cell(raw, role), "assistant", field=columns.name(role)) for role in ("chosen", "rejected")
    )
    given = columns.cell(raw, "prompt")
    prompt = [] if given is None else turns(given, "user", field=columns.name("prompt"))
    system = optional_text(columns.cell(raw, "system"), field=columns.name("system"))
    if len(chosen) > 1 or len(rejected) > 1:
        shared, chosen, rejected = _take_out_prompt(chosen, rejected, field=columns.name("rejected"))
        if prompt and shared[-1:] != prompt[-1:]:
            raise BadRow(problem("row_prompts_differ", field=columns.name("prompt")))
        prompt = shared
    if system and not (prompt and prompt[0]["role"] == "system"):
        prompt = [message("system", system), *prompt]
    if not any(item["role"] == "user" for item in prompt):
        raise BadRow(problem("row_no_prompt", field=columns.name("prompt")))
    return prompt, chosen, rejected


def _take_out_prompt(chosen: Messages, rejected: Messages, *, field: str) -> tuple[Messages, Messages, Messages]:
    """Answers that are whole conversations: what comes before the last message must be the same in both."""
    if chosen[:-1] != rejected[:-1]:
        raise BadRow(problem("row_prompts_differ", field=field))
    return chosen[:-1], chosen[-1:], rejected[-1:]


def _whole(prompt: Messages, answer: Messages, *, field: str) -> list[Problem]:
    if answer[-1]["role"] != "assistant":
        return [problem("row_no_answer", field=field)]
    return faults_of([*prompt, *answer], field=field)


def _once(found: list[Problem]) -> list[Problem]:
    """The two sides share the prompt: its problems are said once."""
    kept: dict[str, Problem] = {}
    for item in found:
        kept.setdefault(item.code, item)
    return list(kept.values())
