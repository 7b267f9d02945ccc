"""What a classification run is worth: measured on rows that it did not learn from, beside labels without training."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy

from engine.data.room import Room
from engine.data.rows import read_rows
from engine.files import write_json
from engine.models.labelling import Labels, measures, predict
from engine.models.prototypes import Prototypes, embed
from engine.objectives import OBJECTIVES
from engine.runtime.beginning import random_state_kept
from engine.runtime.building import Rows
from engine.specs.job import JobSpec
from engine.specs.problem import ProblemError

FILE = "baseline.json"
MOST_ROWS = 4000
"""Training rows that the baseline is made from, and rows that both are measured on, at most."""
MOST_SHOWN = 20
"""Labels of the table of confusions; the others are one row and one column together."""
ROWS_AT_ONCE = 4
UNKNOWN = -1
"""The number of a label that no training row has: it is never said, so that its rows count as wrong."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Rows that were not learned from: `origin` is `held_out` or `evaluation`."""

    origin: str
    ids: list[list[int]]
    labels: Labels


def measured_rows(spec: JobSpec, rows: Rows) -> Measured:
    """The held-out rows, else the evaluation rows."""
    numbers = {label: number for number, label in enumerate(rows.labels)}
    made = _held_out(spec, rows)
    origin = "held_out" if made else "evaluation"
    if not made and rows.evaluation is not None:
        made = [(one["input_ids"], one["label"]) for one in rows.evaluation.select(_first(len(rows.evaluation)))]
    return Measured(origin, [ids for ids, _ in made], _numbered([label for _, label in made], numbers))


def _held_out(spec: JobSpec, rows: Rows) -> list[tuple[list[int], str]]:
    """The test rows as the run would read them; one that the template does not take is left out as in training."""
    chosen: Any = spec.objective
    room, found = Room(spec.data.max_length, spec.data.truncation), []
    for index in rows.test_indices[:MOST_ROWS]:
        for row in read_rows(rows.version_path, index, 1):
            try:
                made = OBJECTIVES[chosen.kind].tokens(row, rows.renderer, chosen, room)
            except ProblemError:
                continue
            found += [(list(one["input_ids"]), str(one["label"])) for one in made if one["input_ids"]]
    return found


def baseline(
    model: Any, spec: JobSpec, rows: Rows, *, folder: Path, seen: Callable[[], None] = lambda: None
) -> dict[str, Any]:
    """Measure labels without training on the base that `model` starts from; made once in the run's `folder`.

    Returns `class_means`, `random_projection` and `most_frequent` with their measures, `rows`, and the `seconds` that
    it took; nothing where there are no rows to measure on.
    """
    if (folder / FILE).is_file():
        kept: dict[str, Any] = json.loads((folder / FILE).read_text(encoding="utf-8"))
        return kept
    began, there = time.monotonic(), measured_rows(spec, rows)
    if not there.ids:
        return {}
    train = rows.train.select(_first(len(rows.train)))
    labels = _numbered(train["label"], {label: number for number, label in enumerate(rows.labels)})
    at_once = ROWS_AT_ONCE * spec.training.batch_size
    with random_state_kept():
        known, asked = (embed(model, ids, at_once=at_once, seen=seen) for ids in (train["input_ids"], there.ids))
    said = Prototypes(known, labels, len(rows.labels)).predict(asked)
    said["most_frequent"] = numpy.full(len(there.labels), numpy.bincount(labels).argmax())
    found: dict[str, Any] = {way: measures(each, there.labels) for way, each in said.items()}
    found |= {"rows": len(train), "seconds": round(time.monotonic() - began, 1)}
    write_json(folder / FILE, found)
    return found


def report(
    model: Any, spec: JobSpec, rows: Rows, *, without: dict[str, Any], seen: Callable[[], None] = lambda: None
) -> dict[str, Any]:
    """How good the trained head is, beside the baseline `without` training; nothing where there is nothing to measure.

    `confusion` counts, for each true label, what was said.
    """
    there = measured_rows(spec, rows)
    if not there.ids:
        return {}
    said = predict(model, there.ids, at_once=ROWS_AT_ONCE * spec.training.batch_size, seen=seen)
    return {
        "origin": there.origin,
        "rows": len(there.ids),
        "unknown": int((there.labels == UNKNOWN).sum()),
        "trained": measures(said, there.labels),
        "baseline": without,
        "confusion": confusion(said, there.labels, rows.labels),
    }


def confusion(said: Labels, true: Labels, names: Sequence[str]) -> dict[str, Any]:
    """The most frequent labels by name, and the counts: a row for each true one, a column for each that was said.

    Where there are more labels, a last row and a last column hold the others, unknown ones included.
    """
    common = [int(one) for one, _ in Counter([*true.tolist(), *said.tolist()]).most_common() if one != UNKNOWN]
    shown = sorted(common[:MOST_SHOWN])
    rest = len(common) > len(shown) or bool((true == UNKNOWN).any())
    places = {number: place for place, number in enumerate(shown)}
    size = len(shown) + rest
    counts = numpy.zeros((size, size), dtype=int)
    for one, other in zip(true.tolist(), said.tolist(), strict=True):
        counts[places.get(one, size - 1), places.get(other, size - 1)] += 1
    return {"labels": [names[number] for number in shown], "others": rest, "counts": counts.tolist()}


def _numbered(labels: Sequence[str], numbers: dict[str, int]) -> Labels:
    return numpy.array([numbers.get(label, UNKNOWN) for label in labels], dtype=numpy.int64)


def _first(count: int) -> range:
    return range(min(MOST_ROWS, count))
