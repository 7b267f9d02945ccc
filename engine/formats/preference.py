"""Preference pairs: `prompt`, `chosen` and `rejected`, texts or messages; the prompt may stand in both answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from engine.formats.columns import SPLIT, cell, find_columns, share
from engine.formats.messages_of import BadRow, conversation, message, optional_text, split_of, turns
from engine.formats.protocol import Raw, Row
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
        "split": SPLIT,
    }
    required: ClassVar[Sequence[str]] = ("chosen", "rejected")

    def recognise(self, sample: Sequence[Raw]) -> float:
        mapping = find_columns(sample, self.roles)
        if not all(role in mapping for role in self.required):
            return 0.0
        return share(sample, lambda raw: mapping["chosen"] in raw and mapping["rejected"] in raw)

    def mapping(self, sample: Sequence[Raw]) -> dict[str, str]:
        return find_columns(sample, self.roles)

    def convert(self, raw: Raw, mapping: Mapping[str, str], line: int) -> Row | list[Problem]:
        try:
            prompt, chosen, rejected = _sides(raw, mapping, line)
        except BadRow as error:
            return [error.found]
        found = [
            *_whole(prompt, chosen, field=mapping["chosen"], line=line),
            *_whole(prompt, rejected, field=mapping["rejected"], line=line),
        ]
        if not found and chosen == rejected:
            found = [problem("row_same_answers", field=mapping["rejected"], line=line)]
        split = split_of(cell(raw, mapping, "split"))
        return _once(found) or {"prompt": prompt, "chosen": chosen, "rejected": rejected, "split": split}


def _sides(raw: Raw, mapping: Mapping[str, str], line: int) -> tuple[Messages, Messages, Messages]:
    for role in ("chosen", "rejected"):
        if cell(raw, mapping, role) is None:
            code = "row_missing_field" if mapping[role] not in raw else "row_empty_answer"
            raise BadRow(problem(code, field=mapping[role], line=line))
    chosen, rejected = (
        turns(cell(raw, mapping, role), "assistant", field=mapping[role], line=line) for role in ("chosen", "rejected")
    )
    given = cell(raw, mapping, "prompt")
    prompt = [] if given is None else turns(given, "user", field=mapping["prompt"], line=line)
    system = optional_text(cell(raw, mapping, "system"), field=mapping.get("system", "system"), line=line)
    if len(chosen) > 1 or len(rejected) > 1:
        shared, chosen, rejected = _take_out_prompt(chosen, rejected, field=mapping["rejected"], line=line)
        if prompt and shared[-1:] != prompt[-1:]:
            raise BadRow(problem("row_prompts_differ", field=mapping.get("prompt", "prompt"), line=line))
        prompt = shared
    if system and not (prompt and prompt[0]["role"] == "system"):
        prompt = [message("system", system), *prompt]
    if not any(item["role"] == "user" for item in prompt):
        raise BadRow(problem("row_no_prompt", field=mapping.get("prompt", "prompt"), line=line))
    return prompt, chosen, rejected


def _take_out_prompt(
    chosen: Messages, rejected: Messages, *, field: str, line: int
) -> tuple[Messages, Messages, Messages]:
    """Answers that are whole conversations: what comes before the last message must be the same in both."""
    if chosen[:-1] != rejected[:-1]:
        raise BadRow(problem("row_prompts_differ", field=field, line=line))
    return chosen[:-1], chosen[-1:], rejected[-1:]


def _whole(prompt: Messages, answer: Messages, *, field: str, line: int) -> list[Problem]:
    if answer[-1]["role"] != "assistant":
        return [problem("row_no_answer", field=field, line=line)]
    return conversation([*prompt, *answer], field=field, line=line)


def _once(found: list[Problem]) -> list[Problem]:
    """The two sides share the prompt: its problems are said once."""
    kept: dict[str, Problem] = {}
    for item in found:
        kept.setdefault(item.code, item)
    return list(kept.values())
