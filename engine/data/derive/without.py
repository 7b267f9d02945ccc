"""Leave rows out: what an examination found, or rows by their numbers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy

from engine.data.derive.sources import Sources
from engine.data.doctor.examination import findings_path, removable_rows
from engine.data.rows import Row
from engine.specs.operations import Without
from engine.specs.problem import ProblemError, problem


def without(sources: Sources, settings: Without) -> Iterator[Row]:
    """All rows but those."""
    place = sources.only()
    left_out = numpy.zeros(sources.sizes[place], bool)
    left_out[_numbers(sources, place, settings)] = True
    for number, row in enumerate(sources.rows(place)):
        if not left_out[number]:
            yield row


def _numbers(sources: Sources, place: int, settings: Without) -> list[int]:
    numbers = list(settings.rows)
    size = sources.sizes[place]
    strange = next((number for number in numbers if not 0 <= number < size), None)
    if strange is not None:
        raise ProblemError([problem("data_row_missing", field="operation.rows", row=strange, rows=size)])
    if settings.findings:
        path = findings_path(sources.paths[place], str(settings.examined))
        if not path.exists():
            raise ProblemError([problem("data_not_examined", field="operation.examined", given=settings.examined)])
        try:
            numbers += removable_rows(path, settings.findings).tolist()
        except KeyError as error:
            found = problem("data_no_such_finding", field="operation.findings", given=error.args[0])
            raise ProblemError([found]) from error
    return numbers
