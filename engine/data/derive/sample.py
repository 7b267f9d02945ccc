"""Keep some training rows: by their hashes, so that 50 rows are part of 100, also when rows are added."""

from __future__ import annotations

from collections.abc import Iterator

import numpy

from engine.data.derive.choosing import in_order, scan
from engine.data.derive.sources import Sources
from engine.data.rows import Row
from engine.specs.operations import Sample
from engine.specs.problem import ProblemError, problem


def sample(sources: Sources, settings: Sample) -> Iterator[Row]:
    """The chosen training rows and all held-out rows, in their order."""
    place = sources.only()
    told = scan(sources.rows(place), settings.seed, stratum=_task_type if settings.stratified else lambda _: "")
    training = numpy.flatnonzero(~told.held_out)
    wanted = settings.rows if settings.rows is not None else max(1, round((settings.share or 0) * len(training)))
    if wanted > len(training):
        raise ProblemError([problem("data_too_few_rows", field="operation.rows", given=wanted, there=len(training))])
    kept = told.held_out.copy()
    kept[training[in_order(told.hashes[training], told.strata[training])[:wanted]]] = True
    for number, row in enumerate(sources.rows(place)):
        if kept[number]:
            yield row


def _task_type(row: Row) -> str:
    return row["task_type"] or ""
