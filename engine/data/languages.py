"""Which languages the rows of a dataset are in, judged on a sample: the rows whose hashes are lowest.

It is the same sample in whatever pieces the file is read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from engine.data.doctor.languages import language_of

JUDGED_ROWS = 500
"""Each megabyte of a file hands as many on, which is some 2 % of its import."""

Numbers = Any
"""A one-dimensional numpy array."""
Said = tuple[str, ...]
"""The beginnings of a row's texts that may tell its language, the most telling first."""


class Languages:
    """The rows of the sample, each with its mark and what it says."""

    def __init__(self) -> None:
        self._marks: Numbers = np.empty(0, np.uint64)
        self._said: list[Said] = []

    def add(self, marks: Numbers, said: Sequence[Said]) -> None:
        """Take rows in; of all that were given, those with the lowest marks stay."""
        marks, said = np.concatenate([self._marks, marks]), [*self._said, *said]
        kept = lowest(marks)
        self._marks, self._said = marks[kept], [said[place] for place in kept]

    def extend(self, other: Languages) -> None:
        """Take in what another one kept of the rows that follow."""
        self.add(other._marks, other._said)

    def plain(self) -> dict[str, Any]:
        """The JSON form of the sample."""
        return {"marks": self._marks.tolist(), "said": self._said}

    @classmethod
    def of(cls, plain: dict[str, Any]) -> Languages:
        """The inverse of `plain`."""
        made = cls()
        made.add(np.array(plain["marks"], np.uint64), [tuple(said) for said in plain["said"]])
        return made

    def as_dict(self) -> dict[str, Any]:
        """How many rows of the sample are in which language, the commonest first, and how many were looked at.

        Rows that are too short, code, or like no language alone are in none.
        """
        counts = Counter(language for said in self._said if (language := _language(said)) is not None)
        return {"counts": dict(counts.most_common()), "looked_at": len(self._said)}


def lowest(marks: Numbers) -> Numbers:
    """The places of the rows with the lowest marks, in the order of the marks."""
    return np.argsort(marks, kind="stable")[:JUDGED_ROWS]


def _language(said: Said) -> str | None:
    """The language of the first text of which it can be told."""
    return next(filter(None, map(language_of, said)), None)
