"""Near duplicates: rows, prompts or answers that are almost the same, and held-out rows almost trained on."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from typing import Any

import numpy

from engine.data.doctor.duplicates import repeated
from engine.data.doctor.protocol import Finding, Setup, finding
from engine.data.doctor.reading import Seen, hash64
from engine.data.doctor.sketches import LEAST_PIECES, Sketches
from engine.specs.problem import problem

COMPARED: dict[str, Callable[[Seen], str]] = {
    "row": lambda row: f"{row.prompt}\n{row.answer}",
    "prompt": lambda row: row.prompt,
    "answer": lambda row: row.answer,
}
"""What of a row is compared; system texts never are."""


class NearDuplicates:
    """Every pair that is reported was compared; equal rows are left to the check for exact duplicates.

    Whole rows with short answers are alike only where those are the same: the label is what such a row is about.
    """

    def __init__(self, setup: Setup) -> None:
        self._text = COMPARED[setup.near_on]
        self._whole = setup.near_on == "row"
        self._values: dict[str, Any] = {"share": round(100 * setup.near_threshold), "on": setup.near_on}
        self._sketches = Sketches(setup.near_threshold, setup.scratch)
        self._pairs = array("Q")
        self._held_out = bytearray()

    def see(self, row: Seen) -> None:
        is_label = self._whole and len(row.answer) < LEAST_PIECES
        self._sketches.add(self._text(row), row.answer if is_label else "")
        self._pairs.append(hash64(str(row.asked), row.claim))
        self._held_out.append(row.held_out)

    def findings(self) -> Iterator[Finding]:
        held_out = numpy.frombuffer(self._held_out, numpy.uint8).astype(bool)
        judged = self._sketches.judged()
        if self._whole:
            equal, later = repeated(numpy.frombuffer(self._pairs, numpy.uint64), held_out)
            judged[equal[later]] = False
        within, across = self._sketches.candidates(numpy.flatnonzero(judged), held_out)
        first_of = self._sketches.groups(within)
        if first_of:
            rows = numpy.array(sorted({*first_of, *first_of.values()}))
            removable = numpy.isin(rows, list(first_of))
            about = problem("doctor_near_rows", rows=len(first_of), **self._values)
            yield finding(about, "warning", rows, removable=removable)
        leaked = self._sketches.alike(across)
        rows = numpy.array(sorted({place for pair in leaked for place in pair}), numpy.int64)
        if len(rows):
            about = problem("doctor_near_leaks", rows=int(held_out[rows].sum()), **self._values)
            yield finding(about, "warning", rows, removable=~held_out[rows])
