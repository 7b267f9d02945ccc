"""Give rows a task type: by rules over their texts, or one for each source."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import regex

from engine.data.derive.sources import Sources
from engine.data.derive.texts import answer_of, prompt_of
from engine.data.rows import Row
from engine.specs.operations import AssignTaskType, Rule
from engine.specs.problem import ProblemError, problem

PATIENCE_S = 0.5
"""For one pattern on one row."""
FIELDS: dict[str, Callable[[Row], str]] = {
    "prompt": prompt_of,
    "answer": answer_of,
    "row": lambda row: f"{prompt_of(row)}\n{answer_of(row)}",
}


def assign_task_type(sources: Sources, settings: AssignTaskType) -> Iterator[Row]:
    """All rows of all sources; what no rule fits keeps what it had."""
    if settings.by_source and len(settings.by_source) != len(sources):
        given = {"given": len(settings.by_source), "sources": len(sources)}
        raise ProblemError([problem("spec_types_count", field="operation.by_source", **given)])
    for place in range(len(sources)):
        usual = settings.by_source[place] if settings.by_source else None
        for number, row in enumerate(sources.rows(place)):
            if settings.keep and row["task_type"]:
                yield row
            else:
                found = next((rule.task_type for rule in settings.rules if _fits(rule, row, number)), usual)
                yield {**row, "task_type": found or row["task_type"]}


def _fits(rule: Rule, row: Row, number: int) -> bool:
    text = FIELDS[rule.field](row)
    return (
        (rule.shortest is None or len(text) >= rule.shortest)
        and (rule.longest is None or len(text) <= rule.longest)
        and (rule.contains is None or rule.contains in text)
        and (rule.regex is None or _matches(rule.regex, text, number))
    )


def _matches(pattern: str, text: str, number: int) -> bool:
    try:
        return regex.search(pattern, text, timeout=PATIENCE_S) is not None
    except TimeoutError as error:
        found = problem("data_pattern_too_slow", field="operation.rules", pattern=pattern, row=number)
        raise ProblemError([found]) from error
