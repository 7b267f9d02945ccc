"""Put several versions into one by weight: rows are repeated or left out until the shares are right."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy

from engine.data.derive.choosing import in_order, scan
from engine.data.derive.sources import Sources
from engine.data.rows import TEST, Row
from engine.specs.operations import Mix
from engine.specs.problem import ProblemError, problem


def mix(sources: Sources, settings: Mix) -> Iterator[Row]:
    """The training rows of each source as often as its weight asks for, one source after another.

    Held-out rows come once, whatever the weights.
    """
    if settings.weights and len(settings.weights) != len(sources):
        given = {"given": len(settings.weights), "sources": len(sources)}
        raise ProblemError([problem("spec_weights_count", field="operation.weights", **given)])
    scans = [scan(sources.rows(place), settings.seed) for place in range(len(sources))]
    sizes = [int((~told.held_out).sum()) for told in scans]
    wanted = counts(settings.weights or sizes, settings.temperature, settings.rows or sum(sizes))
    for place, (told, size, count) in enumerate(zip(scans, sizes, wanted, strict=True)):
        if count and not size:
            raise ProblemError([problem("data_no_training_rows", field="sources", place=place + 1)])
        whole, rest = divmod(count, size) if size else (0, 0)
        training = numpy.flatnonzero(~told.held_out)
        first = training[in_order(told.hashes[training], told.strata[training])[:rest]]
        yield from (row for row in sources.rows(place) if row["split"] == TEST)
        for _ in range(whole):
            yield from (row for row in sources.rows(place) if row["split"] != TEST)
        chosen = numpy.zeros(len(told.hashes), bool)
        chosen[first] = True
        yield from (row for number, row in enumerate(sources.rows(place)) if chosen[number])


def counts(weights: Sequence[float], temperature: float, total: int) -> list[int]:
    """Rows of each source: weights to the power of 1/temperature, in whole rows that add up to the total.

    The temperature of mixtures: A. Conneau and G. Lample, Cross-lingual language model pretraining, 2019.
    """
    drawn = (numpy.array(weights, float) / sum(weights)) ** (1 / temperature)
    exact = total * drawn / drawn.sum()
    whole = numpy.floor(exact).astype(int)
    whole[numpy.argsort(whole - exact, kind="stable")[: total - int(whole.sum())]] += 1
    found: list[int] = whole.tolist()
    return found
