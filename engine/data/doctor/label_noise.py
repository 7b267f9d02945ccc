"""Label noise: the same question with different labels, short answers, or the other side chosen."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator

import numpy

from engine.data.doctor.protocol import Finding, Setup, finding
from engine.data.doctor.reading import Seen, hash64
from engine.specs.problem import problem

LABEL_WORDS, LABEL_CHARACTERS = 4, 40
"""A longer answer is a text, of which there are many good ones."""
USUAL_SHARE = 0.3
"""Where more rows than these contradict another, several answers to a prompt are what the data is about."""


class LabelNoise:
    """A cleaned version leaves out what most rows with the same question contradict; all of them, where none leads."""

    def __init__(self, _setup: Setup) -> None:
        self._asked = array("Q")
        self._claims = array("Q")
        self._rows = array("Q")
        self._num_rows = 0

    def see(self, row: Seen) -> None:
        self._num_rows += 1
        claim = row.claim.lower().strip(" .!。！")
        if claim and len(claim) <= LABEL_CHARACTERS and len(claim.split()) <= LABEL_WORDS:
            self._asked.append(row.asked)
            self._claims.append(hash64(claim))
            self._rows.append(row.number)

    def findings(self) -> Iterator[Finding]:
        asked, claims, rows = (numpy.frombuffer(one, numpy.uint64) for one in (self._asked, self._claims, self._rows))
        order = numpy.argsort(asked, kind="stable")
        borders = numpy.flatnonzero(asked[order][1:] != asked[order][:-1]) + 1
        found: list[int] = []
        removable: list[bool] = []
        prompts = 0
        for places in _several(order, borders):
            counts = Counter(claims[places].tolist())
            if len(counts) == 1:
                continue
            prompts += 1
            (leading, most), (_, second) = counts.most_common(2)
            found += rows[places].tolist()
            removable += [most == second or claim != leading for claim in claims[places].tolist()]
        if 0 < len(found) <= max(2, USUAL_SHARE * self._num_rows):
            about = problem("doctor_label_noise", rows=len(found), prompts=prompts)
            yield finding(about, "warning", found, removable=removable)


def _several(order: numpy.ndarray, borders: numpy.ndarray) -> Iterator[numpy.ndarray]:
    """The places of each question that comes more than once."""
    starts, ends = numpy.concatenate(([0], borders)), numpy.concatenate((borders, [len(order)]))
    for start, end in zip(starts[ends - starts > 1], ends[ends - starts > 1], strict=True):
        yield order[start:end]
