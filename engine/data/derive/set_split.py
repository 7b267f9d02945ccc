"""Mark rows as held out: by a stable hash, with groups kept together or strata alike, or a version as a whole."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator

import numpy
from numpy.typing import NDArray

from engine.data.derive.choosing import in_order, scan
from engine.data.derive.sources import Sources
from engine.data.derive.texts import label_of
from engine.data.rows import TEST, Row, fingerprint
from engine.specs.operations import SetSplit
from engine.specs.problem import ProblemError, problem


def set_split(sources: Sources, settings: SetSplit) -> Iterator[Row]:
    """All rows, each with its part. Of two sources the second is held out as a whole."""
    if len(sources) == 2:
        yield from ({**row, "split": None} for row in sources.rows(0))
        yield from ({**row, "split": TEST} for row in sources.rows(1))
        return
    place = sources.only()
    held_out = _held_out(sources, place, settings)
    for number, row in enumerate(sources.rows(place)):
        yield {**row, "split": TEST if held_out[number] else None}


def _held_out(sources: Sources, place: int, settings: SetSplit) -> NDArray[numpy.bool_]:
    """Whole units in the order of their hashes, as long as they fit into the share; training keeps at least one."""
    told = scan(sources.rows(place), settings.seed, unit=UNITS[settings.by], stratum=STRATA[settings.stratified_by])
    marks, first, members, sizes = numpy.unique(told.hashes, return_index=True, return_inverse=True, return_counts=True)
    if settings.by == "group" and not any(row["group"] for row in sources.rows(place)):
        raise ProblemError([problem("data_no_groups", field="operation.by")])
    wanted = max(1, round(settings.share * len(members)))
    chosen = numpy.zeros(len(marks), bool)
    taken = 0
    for unit in in_order(marks, told.strata[first])[: len(marks) - 1]:
        if taken + sizes[unit] <= wanted:
            chosen[unit] = True
            taken += sizes[unit]
        if taken == wanted:
            break
    held_out: NDArray[numpy.bool_] = chosen[members]
    return held_out


def _group(row: Row) -> bytes:
    """The group, or the row itself where it has none."""
    if not row["group"]:
        return fingerprint(row)
    return hashlib.blake2b(row["group"].encode(), digest_size=16, person=b"group").digest()


UNITS: dict[str, Callable[[Row], bytes]] = {"row": fingerprint, "group": _group}
STRATA: dict[str, Callable[[Row], str]] = {
    "nothing": lambda _: "",
    "task_type": lambda row: row["task_type"] or "",
    "label": label_of,
}
