"""Rows so long that something else than one row may have got into them."""

from __future__ import annotations

from array import array
from collections.abc import Iterator

import numpy

from engine.data.doctor.protocol import Finding, Setup, finding
from engine.data.doctor.reading import Seen
from engine.specs.problem import problem

TIMES_MEDIAN = 10
LEAST_CHARACTERS = 4000
"""Shorter rows fit into any model, however short the others are."""
RARE_SHARE = 0.01
"""Where more rows are so long, long rows belong to the data."""


class Lengths:
    """Rows of more than ten times the median's characters, if at most one in a hundred is."""

    def __init__(self, _setup: Setup) -> None:
        self._characters = array("Q")

    def see(self, row: Seen) -> None:
        self._characters.append(sum(map(len, row.texts)))

    def findings(self) -> Iterator[Finding]:
        if not self._characters:
            return
        characters = numpy.frombuffer(self._characters, numpy.uint64)
        median = int(numpy.median(characters))
        limit = max(TIMES_MEDIAN * median, LEAST_CHARACTERS)
        long = numpy.flatnonzero(characters > limit)
        if 0 < len(long) <= max(1, RARE_SHARE * len(characters)):
            longest = int(characters.max())
            about = problem("doctor_long_rows", rows=len(long), median=median, limit=limit, longest=longest)
            yield finding(about, "warning", long)
