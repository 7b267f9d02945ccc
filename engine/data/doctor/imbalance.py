"""Imbalance: task types that hardly any row has, one that nearly all have, few rows with most of the text."""

from __future__ import annotations

from array import array
from collections.abc import Iterator

import numpy

from engine.data.doctor.protocol import Finding, Setup, finding
from engine.data.doctor.reading import Seen
from engine.specs.problem import problem

RARE_SHARE = 0.1
"""A task type with fewer rows than this share of an even part is rare."""
RULING_SHARE = 0.8
MOST_TYPES = 10_000
FEW_SHARE, WEIGHTY_SHARE = 0.01, 0.4
"""One row in a hundred with four tenths of the text."""
LEAST_ROWS = 100
MOST_NAMED = 20


class Imbalance:
    """Rows without a task type are not counted. Nothing of it is left out by itself: what lacks has to be added."""

    def __init__(self, _setup: Setup) -> None:
        self._types: dict[str, array[int]] = {}
        self._characters = array("Q")

    def see(self, row: Seen) -> None:
        self._characters.append(sum(map(len, row.texts)))
        known = row.task_type in self._types or len(self._types) < MOST_TYPES
        if row.task_type is not None and known:
            self._types.setdefault(row.task_type, array("Q")).append(row.number)

    def findings(self) -> Iterator[Finding]:
        counts = {task_type: len(rows) for task_type, rows in self._types.items()}
        total = sum(counts.values())
        if len(counts) > 1 and total >= LEAST_ROWS:
            yield from self._task_types(counts, total)
        if len(self._characters) >= LEAST_ROWS:
            yield from self._lengths()

    def _task_types(self, counts: dict[str, int], total: int) -> Iterator[Finding]:
        even = total / len(counts)
        rare = sorted((count, name) for name, count in counts.items() if count < RARE_SHARE * even)
        for count, name in rare[:MOST_NAMED]:
            about = problem("doctor_rare_task_type", task_type=name, rows=count, total=total, types=len(counts))
            yield finding(about, "note", self._types[name], removable=numpy.zeros(count, bool), of=name)
        most, name = max((count, name) for name, count in counts.items())
        if most > RULING_SHARE * total:
            about = problem("doctor_ruling_task_type", task_type=name, rows=most, share=round(100 * most / total))
            yield finding(about, "note", self._types[name], removable=numpy.zeros(most, bool))

    def _lengths(self) -> Iterator[Finding]:
        characters = numpy.frombuffer(self._characters, numpy.uint64)
        count = max(1, round(FEW_SHARE * len(characters)))
        longest = numpy.argsort(characters, kind="stable")[-count:]
        share = int(characters[longest].sum()) / max(1, int(characters.sum()))
        if share > WEIGHTY_SHARE:
            about = problem("doctor_weighty_rows", rows=count, share=round(100 * share))
            yield finding(about, "note", longest, removable=numpy.zeros(count, bool))
