"""Answers to one prompt with what was thought of them: their places in a ranking, or their scores."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import groupby, pairwise
from typing import Any

from engine.formats.columns import Columns
from engine.formats.messages_of import (
    BadRow,
    Message,
    check_conversation,
    faults_of,
    json_cell,
    kind_of,
    optional_text,
    short,
    with_system,
)
from engine.formats.protocol import Raw, Row
from engine.formats.turns_of import first_item, prompt_turns, turns
from engine.specs.problem import problem

ANSWERS = ("responses", "answers", "outputs", "completions", "candidates", "generations")
RANKS = ("rank", "ranks", "ranking", "rankings")
SCORES = ("score", "scores", "rating", "ratings", "overall_score", "reward", "rewards")
TEXT_KEYS = ("text", "content", "answer", "response", "output", "completion", "generation")

MAX_DIGITS = 30
MAX_NUMBER = 1e15

Judged = tuple[list[Message], float]


def judged_answers(raw: Raw, columns: Columns, *, role: str, keys: Sequence[str]) -> list[Judged]:
    """Each answer with its number, which stands beside it in its own object or in a list of numbers.

    Raises:
        BadRow: an answer has no number, or there is another count of them.
    """
    field = columns.name("answers")
    given = json_cell(columns.cell(raw, "answers"), field=field)
    answers = given if isinstance(given, list) else [given]
    if not answers or given is None:
        raise BadRow(problem("row_no_answer" if field in raw else "row_missing_field", field=field))
    if role in columns:
        numbers = json_cell(columns.cell(raw, role), field=columns.name(role))
        numbers = numbers if isinstance(numbers, list) else [numbers]
    else:
        numbers = [_beside(item, keys) for item in answers]
    if len(numbers) != len(answers):
        where = columns.name(role)
        raise BadRow(problem("row_other_count", field=where, given=len(numbers), expected=len(answers)))
    where = columns.name(role) if role in columns else f"{field}.{keys[0]}"
    return [
        (turns(_said(item), "assistant", field=field), _number(number, field=where))
        for item, number in zip(answers, numbers, strict=True)
    ]


def has_numbers(raw: Raw, mapping: Mapping[str, str], *, role: str, keys: Sequence[str]) -> bool:
    """Whether a row has a list of answers and numbers for them, beside the list or in its objects."""
    answers = raw.get(mapping.get("answers", ""))
    first = first_item(answers)
    if first is not None and any(key in first for key in keys):
        return True
    return role in mapping and (isinstance(answers, list) or (isinstance(answers, str) and answers[:1] == "["))


def prompt_of(raw: Raw, columns: Columns) -> list[Message]:
    """The prompt of a row, with its system text.

    Raises:
        BadRow: it has none.
    """
    given = columns.cell(raw, "prompt")
    if given is None:
        raise BadRow(problem("row_no_prompt", field=columns.name("prompt")))
    prompt = prompt_turns(given, field=columns.name("prompt"))
    return with_system(prompt, optional_text(columns.cell(raw, "system"), field=columns.name("system")))


def unpaired(
    prompt: list[Message],
    completion: list[Message],
    *,
    field: str,
    label: bool | None = None,
    score: float | None = None,
) -> Row:
    """A row of one judged answer; the prompt is taken out of an answer that is a whole conversation.

    Raises:
        BadRow: what is wrong with it.
    """
    if completion[0]["role"] != "assistant":
        before, completion = completion[:-1], completion[-1:]
        if any(item["role"] == "user" for item in prompt) and before[-1:] != prompt[-1:]:
            raise BadRow(problem("row_prompts_differ", field=field))
        prompt = before if before and before[0]["role"] == "system" else [*_systems(prompt), *before]
    if not any(item["role"] == "user" for item in prompt):
        raise BadRow(problem("row_no_prompt", field=field))
    if completion[-1]["role"] != "assistant":
        raise BadRow(problem("row_no_answer", field=field))
    check_conversation([*prompt, *completion], field=field)
    return {"prompt": prompt, "completion": completion, "label": label, "score": score}


def pairs(prompt: list[Message], judged: Sequence[Judged], *, field: str) -> list[Row]:
    """Each answer of a place against each of the next place below; `judged` is sorted, the best first.

    Neighbours alone: all pairs would repeat a prompt with K answers K(K-1)/2 times, and say little more.

    Raises:
        BadRow: what is wrong with an answer, or that none is better than another.
    """
    for answer, _ in judged:
        if found := faults_of([*prompt, *answer], field=field):
            raise BadRow(*found)
    places = [[answer for answer, _ in group] for _, group in groupby(judged, key=lambda item: item[1])]
    made = [
        {"prompt": prompt, "chosen": chosen, "rejected": rejected, "tools": None}
        for better, worse in pairwise(places)
        for chosen in better
        for rejected in worse
        if chosen != rejected
    ]
    if not made:
        raise BadRow(problem("row_none_better", field=field))
    return made


def _systems(messages: Sequence[Message]) -> list[Message]:
    return [item for item in messages if item["role"] == "system"]


def _beside(item: Any, keys: Sequence[str]) -> Any:
    return next((item[key] for key in keys if key in item), None) if isinstance(item, Mapping) else None


def _said(item: Any) -> Any:
    """What an answer says: itself, or the text in its object."""
    if not isinstance(item, Mapping) or "role" in item or "from" in item:
        return item
    return next((item[key] for key in TEXT_KEYS if key in item), item)


def _number(value: Any, *, field: str) -> float:
    if isinstance(value, str) and len(value) < MAX_DIGITS:  # a CSV cell
        with suppress(ValueError):
            value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadRow(problem("row_not_number", field=field, given=kind_of(value)))
    if not math.isfinite(value) or abs(value) > MAX_NUMBER:
        raise BadRow(problem("row_bad_number", field=field, given=short(value)))
    return float(value)
