"""Held-out rows that are trained on as well: whole, or their prompt alone."""

from __future__ import annotations

from array import array
from collections.abc import Iterator

import numpy
from numpy.typing import NDArray

from engine.data.doctor.protocol import Finding, Setup, finding
from engine.data.doctor.reading import Seen, hash64
from engine.specs.problem import problem


class Leaks:
    """A cleaned version leaves out the training rows: what measures stays as it is."""

    def __init__(self, setup: Setup) -> None:
        self._asks = setup.row_kind != "text"
        self._rows = array("Q")
        self._prompts = array("Q")
        self._held_out = bytearray()

    def see(self, row: Seen) -> None:
        self._rows.append(row.mark)
        self._prompts.append(hash64(*row.given) if self._asks else row.mark)
        self._held_out.append(row.held_out)

    def findings(self) -> Iterator[Finding]:
        held_out = numpy.frombuffer(self._held_out, numpy.uint8).astype(bool)
        whole = _shared(numpy.frombuffer(self._rows, numpy.uint64), held_out)
        if whole.any():
            rows = numpy.flatnonzero(whole)
            about = problem("doctor_leaked_rows", rows=int((whole & held_out).sum()))
            yield finding(about, "error", rows, removable=~held_out[rows])
        prompts = _shared(numpy.frombuffer(self._prompts, numpy.uint64), held_out) & ~whole
        if (prompts & held_out).any() and (prompts & ~held_out).any():
            rows = numpy.flatnonzero(prompts)
            about = problem("doctor_leaked_prompts", rows=int((prompts & held_out).sum()))
            yield finding(about, "warning", rows, removable=~held_out[rows])


def _shared(marks: NDArray[numpy.uint64], held_out: NDArray[numpy.bool_]) -> NDArray[numpy.bool_]:
    """The rows whose mark is on both sides."""
    both = numpy.intersect1d(marks[held_out], marks[~held_out])
    return numpy.isin(marks, both)
