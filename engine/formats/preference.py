"""Preference pairs: `prompt`, `chosen` and `rejected`; the prompt may stand in both, as in transcripts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from engine.formats.columns import Columns, find_columns, share
from engine.formats.messages_of import BadRow, Message, faults_of, optional_text, with_system
from engine.formats.protocol import Raw, Recognised, Row
from engine.formats.recognising import by_columns
from engine.formats.tools_of import definitions_of
from engine.formats.turns_of import is_transcript, prompt_turns, transcript, turns
from engine.specs.problem import Problem, problem

SIDES = ("chosen", "rejected")


class PreferenceFormat:
    kind: ClassVar[str] = "preference"
    row_kind: ClassVar[str] = "preference"
    roles: ClassVar[Mapping[str, Sequence[str]]] = {
        "prompt": ("prompt", "question", "instruction", "query", "conversations", "conversation", "messages", "input"),
        "chosen": ("chosen", "preferred", "accepted"),
        "rejected": ("rejected", "dispreferred"),
        "system": ("system", "system_prompt"),
        "tools": ("tools", "functions"),
    }
    required: ClassVar[Sequence[str]] = SIDES
    options: ClassVar[Mapping[str, str]] = {}

    def recognise(self, sample: Sequence[Raw]) -> Recognised:
        found = by_columns(sample, self.roles, self.required)
        if not found.confidence:
            return found
        mapping = find_columns(sample, self.roles)
        told = share(sample, lambda raw: all(is_transcript(raw.get(mapping[role])) for role in SIDES))
        more = [problem("shape_transcripts", percent=round(100 * told))] if told else []
        return Recognised(found.confidence, [*found.reasons, *more])

    def convert(self, raw: Raw, columns: Columns) -> list[Row]:
        prompt, chosen, rejected = _sides(raw, columns)
        field = columns.name("rejected")
        found = [*_whole(prompt, chosen, field=columns.name("chosen")), *_whole(prompt, rejected, field=field)]
        if not found and chosen == rejected:
            found = [problem("row_same_answers", field=field)]
        if found:
            raise BadRow(*_once(found))
        tools = definitions_of(columns.cell(raw, "tools"), field=columns.name("tools"))
        return [{"prompt": prompt, "chosen": chosen, "rejected": rejected, "tools": tools}]


def _sides(raw: Raw, columns: Columns) -> tuple[list[Message], list[Message], list[Message]]:
    for role in SIDES:
        if columns.cell(raw, role) is None:
            code = "row_missing_field" if columns.name(role) not in raw else "row_empty_answer"
            raise BadRow(problem(code, field=columns.name(role)))
    given = columns.cell(raw, "prompt")
    prompt = [] if given is None else prompt_turns(given, field=columns.name("prompt"))
    whole = given is None and all(is_transcript(columns.cell(raw, role)) for role in SIDES)
    read = transcript if whole else _answer
    chosen, rejected = (read(columns.cell(raw, role), field=columns.name(role)) for role in SIDES)
    if len(chosen) > 1 or len(rejected) > 1:
        shared, chosen, rejected = _take_out_prompt(chosen, rejected, field=columns.name("rejected"))
        if prompt and shared[-1:] != prompt[-1:]:
            raise BadRow(problem("row_prompts_differ", field=columns.name("prompt")))
        prompt = shared
    prompt = with_system(prompt, optional_text(columns.cell(raw, "system"), field=columns.name("system")))
    if not any(item["role"] == "user" for item in prompt):
        raise BadRow(problem("row_no_prompt", field=columns.name("prompt")))
    return prompt, chosen, rejected


def _answer(value: object, *, field: str) -> list[Message]:
    return turns(value, "assistant", field=field)


def _take_out_prompt(
    chosen: list[Message], rejected: list[Message], *, field: str
) -> tuple[list[Message], list[Message], list[Message]]:
    """Answers that are whole conversations: what comes before the last message must be the same in both."""
    if chosen[:-1] != rejected[:-1]:
        raise BadRow(problem("row_prompts_differ", field=field))
    return chosen[:-1], chosen[-1:], rejected[-1:]


def _whole(prompt: list[Message], answer: list[Message], *, field: str) -> list[Problem]:
    if answer[-1]["role"] != "assistant":
        return [problem("row_no_answer", field=field)]
    return faults_of([*prompt, *answer], field=field)


def _once(found: list[Problem]) -> list[Problem]:
    """The two sides share the prompt: its problems are said once."""
    kept: dict[str, Problem] = {}
    for item in found:
        kept.setdefault(item.code, item)
    return list(kept.values())
