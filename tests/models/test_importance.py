"""The importance of weights against its formula, and what a merge by it is good for."""

from __future__ import annotations

from types import SimpleNamespace

import numpy
import pytest
import torch

from engine.merging import MERGES
from engine.merging.protocol import Beside
from engine.models.agreement import Row
from engine.models.importance import measure

WORDS = 6


class Pairs(torch.nn.Module):
    """A language model that knows of each token which ones follow it."""

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(weight.clone())
        self.unused = torch.nn.Parameter(torch.ones(2))
        self.device = torch.device("cpu")

    def forward(self, input_ids: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=self.weight[input_ids])


def row(*ids: int, answer_from: int = 1) -> Row:
    return Row(ids, tuple(place >= answer_from for place in range(len(ids))))


def loss(weight: torch.Tensor, rows: list[Row]) -> float:
    chosen = [torch.log_softmax(weight[a], 0)[b] for one in rows for a, b in zip(one.ids, one.ids[1:], strict=False)]
    return -float(torch.stack(chosen).mean())


def trained(rows: list[Row]) -> torch.Tensor:
    """Weights that have learned these rows, from zero, which is the common start."""
    weight = torch.zeros(WORDS, WORDS, requires_grad=True)
    for _ in range(60):
        chosen = [
            torch.log_softmax(weight[a], 0)[b] for one in rows for a, b in zip(one.ids, one.ids[1:], strict=False)
        ]
        (gradient,) = torch.autograd.grad(-torch.stack(chosen).mean(), weight)
        weight = (weight - 2.0 * gradient).detach().requires_grad_(True)
    return weight.detach()


def test_importance_is_the_mean_square_of_each_rows_gradient():
    torch.manual_seed(0)
    weight = torch.randn(WORDS, WORDS)
    rows = [row(0, 1, 2), row(3, 1, 1, 4, answer_from=2)]
    found = measure(Pairs(weight), rows, seen=lambda: None)
    wanted = numpy.zeros((WORDS, WORDS))
    for one in rows:
        gradient = numpy.zeros((WORDS, WORDS))
        for place in range(1, len(one.ids)):
            if one.trained[place]:
                before, after = one.ids[place - 1], one.ids[place]
                gradient[before] += numpy.eye(WORDS)[after] - torch.softmax(weight[before], 0).numpy()
        wanted += gradient**2 / len(rows)
    numpy.testing.assert_allclose(found["weight"].numpy(), wanted, rtol=1e-4, atol=1e-6)
    assert not found["unused"].any()


def test_fisher_keeps_what_each_of_two_learned_where_the_mean_forgets_half():
    first, second = [row(0, 1), row(1, 2)], [row(3, 4), row(4, 5)]
    pair = [trained(first), trained(second)]
    importance = [
        measure(Pairs(weight), rows, seen=lambda: None)["weight"]
        for weight, rows in zip(pair, (first, second), strict=True)
    ]

    def merged(kind: str) -> torch.Tensor:
        method = MERGES[kind]
        spec = method.Spec()
        return method.merge(pair, method.shares([1, 1], spec), spec, Beside(0, importance))

    by_fisher, by_mean = loss(merged("fisher"), first + second), loss(merged("linear"), first + second)
    alone = (loss(pair[0], first) + loss(pair[1], second)) / 2
    assert by_fisher == pytest.approx(alone, rel=0.01)
    assert by_mean > 3 * by_fisher
