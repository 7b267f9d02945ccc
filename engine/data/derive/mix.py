"""Put several versions into one by weight: rows are repeated or left out until the shares are right."""

from __future__ import annotations

from collections.abc import Iterator

import numpy

from engine.data.derive.choosing import in_order, scan
from engine.data.derive.sources import Sources
from engine.data.rows import TEST, Row
from engine.specs.mixture import planned
from engine.specs.operations import Mix


def mix(sources: Sources, settings: Mix) -> Iterator[Row]:
    """The training rows of each source as often as its weight asks for, one source after another.

    Held-out rows come once, whatever the weights.
    """
    scans = [scan(sources.rows(place), settings.seed) for place in range(len(sources))]
    sizes = [int((~told.held_out).sum()) for told in scans]
    for place, (told, size, count) in enumerate(zip(scans, sizes, planned(settings, sizes), strict=True)):
        whole, rest = divmod(count, size) if size else (0, 0)
        training = numpy.flatnonzero(~told.held_out)
        first = training[in_order(told.hashes[training], told.strata[training])[:rest]]
        yield from (row for row in sources.rows(place) if row["split"] == TEST)
        for _ in range(whole):
            yield from (row for row in sources.rows(place) if row["split"] != TEST)
        chosen = numpy.zeros(len(told.hashes), bool)
        chosen[first] = True
        yield from (row for number, row in enumerate(sources.rows(place)) if chosen[number])
