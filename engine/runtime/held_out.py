"""Rows to compare models on: the held-out ones, else evaluation rows, else training rows, and which they were."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.data.render import Renderer
from engine.data.rendered import Rendered
from engine.data.rows import iterate_rows, rows_at
from engine.data.split import split
from engine.models.agreement import MIN_TOKENS, Row
from engine.specs.job import JobSpec
from engine.specs.problem import Problem, ProblemError, problem
from storage.datasets import Version

ORIGINS = ("held_out", "evaluation", "training")
LEAST_TOKENS = 50
"""Fewer answer tokens tell nothing: one token that differs is then more than the limits allow."""


@dataclass(frozen=True, slots=True)
class Answers:
    """Rows as tokens and the dataset's rows they come from; `sources` counts their answer tokens by origin."""

    rows: Sequence[Row]
    said: Sequence[dict[str, Any]]
    sources: dict[str, int]


@dataclass(frozen=True, slots=True)
class Sample:
    """How many rows are drawn, how much of each is read, and what decides which."""

    count: int
    max_length: int
    seed: int


def answers(version: Version, spec: JobSpec, renderer: Renderer, *, wanted: int) -> Answers:
    """Rows with `wanted` answer tokens. Further origins are used only while there are too few.

    Raises:
        ProblemError: no row has an answer that fits, or all of them together are too few to compare on.
    """
    taken: list[tuple[dict[str, Any], list[Row]]] = []
    sources: dict[str, int] = {}
    for name, said in _in_order(version, spec):
        total = sum(sources.values())
        if total >= wanted or (total >= MIN_TOKENS and name not in sources):
            break
        found = rows_of(said, spec.data.max_length, renderer)
        if found:
            taken.append((said, found))
            sources[name] = sources.get(name, 0) + sum(row.num_answer_tokens for row in found)
    if not taken:
        raise ProblemError([problem("data_no_answers", field="target", dataset=version.name)])
    if sum(sources.values()) < LEAST_TOKENS:
        tokens = sum(sources.values())
        few = problem("data_too_few_answers", field="target", dataset=version.name, tokens=tokens, least=LEAST_TOKENS)
        raise ProblemError([few])
    return Answers([row for _, some in taken for row in some], [said for said, _ in taken], sources)


def sampled_rows(version: Version, tokenizer: Any, sample: Sample) -> list[Row]:
    """Rows drawn at random, as tokens; those without an answer are left out.

    Raises:
        ProblemError: none has one.
    """
    renderer, count = Renderer(tokenizer), min(sample.count, version.rows)
    places = sorted(random.Random(sample.seed).sample(range(version.rows), count))  # noqa: S311  no secret
    said = rows_at(iterate_rows(Path(version.path)), places)
    found = [row for one in said for row in rows_of(one, sample.max_length, renderer)]
    if not found:
        raise ProblemError([problem("data_no_answers", field="data", dataset=version.name)])
    return found


def caution(sources: Mapping[str, int], code: str = "export_few_tokens", least: int = MIN_TOKENS) -> Problem | None:
    """What has to be said of figures that rest on little, or on rows that were trained on."""
    counts: dict[str, Any] = {name: sources.get(name, 0) for name in ORIGINS}
    if counts["held_out"] + counts["evaluation"] >= least:
        return None
    return problem(code, total=sum(counts.values()), least=least, **counts)


def rows_of(said: dict[str, Any], max_length: int, renderer: Renderer) -> list[Row]:
    """The rows of tokens of a dataset's row, as they are trained; none if the template does not take it."""
    try:
        rendered = _rendered(said, renderer)
    except ProblemError:
        return []
    rows = [Row(one.ids[:max_length], one.trained[:max_length]) for one in rendered]
    return [row for row in rows if row.num_answer_tokens]


def _rendered(said: dict[str, Any], renderer: Renderer) -> list[Rendered]:
    if "text" in said:
        return [renderer.document(said["text"])]
    messages = said.get("messages") or [*said["prompt"], *(said.get("chosen") or said["completion"])]
    return renderer.conversation(messages, said.get("tools"))


def _in_order(version: Version, spec: JobSpec) -> Iterator[tuple[str, dict[str, Any]]]:
    path = Path(version.path)
    data = spec.data
    train, evaluation, test = split(iterate_rows(path), data.eval_fraction, spec.seed, data.eval_by)
    for name, places in zip(ORIGINS, (test, evaluation, train), strict=True):
        yield from ((name, row) for row in rows_at(iterate_rows(path), places))
