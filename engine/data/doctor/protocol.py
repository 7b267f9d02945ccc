"""What a check of the doctor is: it sees each row once as they stream by, and tells at the end what it found."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy
from numpy.typing import NDArray

from engine.data.doctor.reading import Seen
from engine.specs.problem import Problem

Numbers = NDArray[numpy.int64]


@dataclass(frozen=True, slots=True)
class Setup:
    """What a check knows before the first row. `scratch` is a folder for files that no longer matter afterwards."""

    row_kind: str
    num_rows: int
    scratch: Path
    near_threshold: float = 0.85
    near_on: str = "row"


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong and with which rows, numbered from 0 in ascending order.

    `removable` says of each whether a cleaned version leaves it out: of equal rows, all but the first.
    """

    key: str
    about: Problem
    severity: str
    """error: the run would be spoilt or a secret told; warning: it would be worse; note: good to know."""
    rows: Numbers
    removable: NDArray[numpy.bool_]

    def as_dict(self, shown: int) -> dict[str, Any]:
        """The JSON form with the first row numbers."""
        return {
            "key": self.key,
            "code": self.about.code,
            "values": dict(self.about.values),
            "severity": self.severity,
            "count": len(self.rows),
            "removable": int(self.removable.sum()),
            "rows": self.rows[:shown].tolist(),
        }


def finding(
    about: Problem,
    severity: str,
    rows: Sequence[int] | NDArray[Any],
    *,
    removable: Sequence[bool] | NDArray[numpy.bool_] | None = None,
    of: str = "",
) -> Finding:
    """Make a finding whose rows can all be left out, unless said otherwise; `of` tells those of one code apart."""
    numbers = numpy.asarray(rows, dtype=numpy.int64)
    left_out = numpy.ones(len(numbers), bool) if removable is None else numpy.asarray(removable, bool)
    order = numpy.argsort(numbers, kind="stable")
    return Finding(f"{about.code}:{of}" if of else about.code, about, severity, numbers[order], left_out[order])


class Check(Protocol):
    """One check over the rows of a version."""

    def see(self, row: Seen) -> None:
        """Look at the next row."""
        ...

    def findings(self) -> Iterator[Finding]:
        """What was found, once all rows have been seen."""
        ...
