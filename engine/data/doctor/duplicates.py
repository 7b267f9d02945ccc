"""Exact duplicates: whole rows, and rows that give the same answer to the same prompt."""

from __future__ import annotations

from array import array
from collections.abc import Iterator

import numpy
from numpy.typing import NDArray

from engine.data.doctor.protocol import Finding, Numbers, Setup, finding
from engine.data.doctor.reading import Seen, hash64
from engine.specs.problem import problem


class Duplicates:
    """Compares hashes of rows, training rows and held-out rows each among themselves."""

    def __init__(self, _setup: Setup) -> None:
        self._rows = array("Q")
        self._pairs = array("Q")
        self._held_out = bytearray()

    def see(self, row: Seen) -> None:
        self._rows.append(row.mark)
        self._pairs.append(hash64(str(row.asked), row.claim))
        self._held_out.append(row.held_out)

    def findings(self) -> Iterator[Finding]:
        held_out = numpy.frombuffer(self._held_out, numpy.uint8).astype(bool)
        whole = numpy.frombuffer(self._rows, numpy.uint64)
        rows, later = repeated(whole, held_out)
        if len(rows):
            copies = int(later.sum())
            yield finding(problem("doctor_same_rows", rows=copies), "warning", rows, removable=later)
        first = numpy.ones(len(whole), bool)
        first[rows[later]] = False
        others = numpy.flatnonzero(first)
        pairs, later = repeated(numpy.frombuffer(self._pairs, numpy.uint64)[others], held_out[others])
        if len(pairs):
            copies = int(later.sum())
            yield finding(problem("doctor_same_pairs", rows=copies), "warning", others[pairs], removable=later)


def repeated(marks: NDArray[numpy.uint64], held_out: NDArray[numpy.bool_]) -> tuple[Numbers, NDArray[numpy.bool_]]:
    """The rows whose mark another row of the same part has, in ascending order, and whether it was there before."""
    order = numpy.lexsort((marks, held_out))
    same = (marks[order][1:] == marks[order][:-1]) & (held_out[order][1:] == held_out[order][:-1])
    before = numpy.concatenate(([False], same))
    after = numpy.concatenate((same, [False]))
    again = numpy.zeros(len(marks), bool)
    again[order[before]] = True  # lexsort keeps the order of equal rows: the first of them is the first row
    concerned = numpy.sort(order[before | after])
    return concerned.astype(numpy.int64), again[concerned]
