"""How many rows of each source a mixture holds: for the page that shows it and for the job that makes it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from engine.specs.operations import Mix
from engine.specs.problem import ProblemError, problem


def planned(mix: Mix, sizes: Sequence[int]) -> list[int]:
    """Training rows that each source gives; `sizes` are those that it has.

    Raises:
        ProblemError: there are more or fewer weights than sources, or a source that is to give rows has none.
    """
    if mix.weights and len(mix.weights) != len(sizes):
        given = {"given": len(mix.weights), "sources": len(sizes)}
        raise ProblemError([problem("spec_weights_count", field="operation.weights", **given)])
    weights = mix.weights or (sizes if any(sizes) else [1] * len(sizes))
    wanted = counts(weights, mix.temperature, mix.rows or max(1, sum(sizes)))
    for place, (size, count) in enumerate(zip(sizes, wanted, strict=True), 1):
        if count and not size:
            raise ProblemError([problem("data_no_training_rows", field="sources", place=place)])
    return wanted


def counts(weights: Sequence[float], temperature: float, total: int) -> list[int]:
    """Rows of each source: weights to the power of 1/temperature, in whole rows that add up to the total.

    The temperature of mixtures: A. Conneau and G. Lample, Cross-lingual language model pretraining, 2019.
    """
    most = max(weights)
    drawn = [(weight / most) ** (1 / temperature) for weight in weights]
    exact = [total * one / sum(drawn) for one in drawn]
    whole = [math.floor(one) for one in exact]
    first = sorted(range(len(whole)), key=lambda place: whole[place] - exact[place])
    for place in first[: total - sum(whole)]:
        whole[place] += 1
    return whole
