"""Each way of merging against its formula, written down again in numpy, and against the library where it has one."""

from __future__ import annotations

import numpy
import pytest
import torch

from engine.merging import MERGES
from engine.merging.arithmetic import drawn, largest
from engine.merging.protocol import Beside

SHAPE = (6, 10)


@pytest.fixture
def tensors() -> list[torch.Tensor]:
    torch.manual_seed(3)
    return [torch.randn(SHAPE) for _ in range(3)]


def merged(kind: str, tensors: list[torch.Tensor], weights: list[float], importance=(), seed: int = 5, **settings):
    method = MERGES[kind]
    spec = method.Spec(**settings)
    return method.merge(tensors, method.shares(weights, spec), spec, Beside(seed, importance)).numpy()


def top(values: numpy.ndarray, density: float) -> numpy.ndarray:
    kept = round(values.size * density)
    limit = numpy.sort(numpy.abs(values), axis=None)[-kept]
    return numpy.where(numpy.abs(values) >= limit, values, 0.0)


def majority(values: list[numpy.ndarray], weights: list[float]) -> numpy.ndarray:
    found = numpy.zeros(values[0].size)
    for place in range(values[0].size):
        here = [(one.flat[place], weight) for one, weight in zip(values, weights, strict=True)]
        mass = sum(value * weight for value, weight in here)
        agree = [(value, weight) for value, weight in here if value * mass > 0]
        if agree:
            found[place] = sum(value * weight for value, weight in agree) / sum(weight for _, weight in agree)
    return found.reshape(values[0].shape)


def test_linear_is_the_weighted_mean_and_scaled_it_is_the_sum(tensors):
    one, two, three = (tensor.numpy() for tensor in tensors)
    numpy.testing.assert_allclose(merged("linear", tensors, [1, 2, 1]), (one + 2 * two + three) / 4, rtol=1e-5)
    numpy.testing.assert_allclose(
        merged("linear", tensors, [1, 1, 1], scale=3.0), one + two + three, rtol=1e-4, atol=1e-6
    )


def test_slerp_goes_along_the_arc(tensors):
    one, two = (tensor.numpy().ravel() for tensor in tensors[:2])
    angle = numpy.arccos(one @ two / numpy.linalg.norm(one) / numpy.linalg.norm(two))
    wanted = (numpy.sin(0.75 * angle) * one + numpy.sin(0.25 * angle) * two) / numpy.sin(angle)
    numpy.testing.assert_allclose(merged("slerp", tensors[:2], [3, 1]).ravel(), wanted, rtol=1e-4, atol=1e-6)
    unit = [torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])]
    assert numpy.linalg.norm(merged("slerp", unit, [1, 1])) == pytest.approx(1.0)
    assert numpy.linalg.norm(merged("linear", unit, [1, 1])) == pytest.approx(0.5**0.5)


def test_slerp_between_equal_directions_or_zeros_is_the_line(tensors):
    same = [tensors[0], 2 * tensors[0]]
    numpy.testing.assert_allclose(merged("slerp", same, [1, 1]), 1.5 * tensors[0].numpy(), rtol=1e-5)
    assert not merged("slerp", [torch.zeros(4), torch.zeros(4)], [1, 1]).any()


@pytest.mark.parametrize("weights", [[1, 1, 1], [3, 1, 2]])
@pytest.mark.parametrize("density", [0.2, 1.0])
def test_ties_keeps_the_largest_and_the_sign_of_the_greater_mass(tensors, weights, density):
    wanted = majority([top(one.numpy(), density) for one in tensors], weights)
    numpy.testing.assert_allclose(merged("ties", tensors, weights, density=density), wanted, rtol=1e-4, atol=1e-6)
    half = merged("ties", tensors, weights, density=density, scale=0.5)
    numpy.testing.assert_allclose(half, wanted / 2, rtol=1e-4, atol=1e-6)


def test_ties_with_equal_weights_is_that_of_the_library(tensors):
    from peft.utils.merge_utils import ties

    theirs = ties(list(tensors), torch.ones(3), density=0.5)
    numpy.testing.assert_allclose(merged("ties", tensors, [1, 1, 1], density=0.5), theirs.numpy(), rtol=1e-5, atol=1e-7)


def test_magnitude_pruning_is_the_mean_of_the_largest_and_that_of_the_library(tensors):
    from peft.utils.merge_utils import magnitude_prune

    wanted = numpy.mean([top(one.numpy(), 0.3) for one in tensors], axis=0)
    found = merged("magnitude", tensors, [1, 1, 1], density=0.3)
    numpy.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)
    theirs = magnitude_prune(list(tensors), torch.full((3,), 1 / 3), density=0.3)
    numpy.testing.assert_allclose(found, theirs.numpy(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("then", ["linear", "ties"])
def test_dare_drops_at_random_enlarges_the_rest_and_puts_it_together(tensors, then):
    left = [drawn(one, 0.5, 5 + place).numpy() for place, one in enumerate(tensors)]
    for one, whole in zip(left, tensors, strict=True):
        kept = one != 0
        assert 0.2 < kept.mean() < 0.8
        numpy.testing.assert_allclose(one[kept], whole.numpy()[kept] / 0.5, rtol=1e-6)
    wanted = numpy.mean(left, axis=0) if then == "linear" else majority(left, [1, 1, 1])
    found = merged("dare", tensors, [1, 1, 1], density=0.5, then=then)
    numpy.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)


def test_dare_keeps_the_mean_and_the_same_seed_draws_the_same():
    ones = torch.ones(200_000)
    assert drawn(ones, 0.3, 7).mean().item() == pytest.approx(1.0, abs=0.02)
    assert torch.equal(drawn(ones, 0.3, 7), drawn(ones, 0.3, 7))
    assert not torch.equal(drawn(ones, 0.3, 7), drawn(ones, 0.3, 8))


def test_fisher_weighs_each_value_by_its_importance(tensors):
    importance = [torch.rand(SHAPE) for _ in tensors]
    weights = [0.5, 0.25, 0.25]
    above = sum(w * (f.numpy() + 1e-3) * t.numpy() for w, f, t in zip(weights, importance, tensors, strict=True))
    below = sum(w * (f.numpy() + 1e-3) for w, f in zip(weights, importance, strict=True))
    found = merged("fisher", tensors, weights, importance=importance, floor=1e-3)
    numpy.testing.assert_allclose(found, above / below, rtol=1e-4, atol=1e-6)
    nothing = [torch.zeros(SHAPE) for _ in tensors]
    plain = merged("linear", tensors, weights)
    numpy.testing.assert_allclose(merged("fisher", tensors, weights, importance=nothing), plain, rtol=1e-4, atol=1e-6)


def test_ema_is_the_average_that_a_run_would_have_carried_along(tensors):
    average = tensors[0].numpy()
    for one in tensors[1:]:
        average = 0.7 * average + 0.3 * one.numpy()
    numpy.testing.assert_allclose(merged("ema", tensors, [1, 1, 1], decay=0.7), average, rtol=1e-4, atol=1e-6)
    numpy.testing.assert_allclose(merged("ema", tensors, [1, 1, 1], decay=0.0), tensors[2].numpy(), rtol=1e-6)


def test_at_least_one_value_is_kept():
    assert largest(torch.tensor([0.5]), 0.2).tolist() == [0.5]
    assert largest(torch.tensor([1.0, -3.0, 2.0]), 0.2).tolist() == [0.0, -3.0, 0.0]


def test_merging_leaves_the_sources_as_they_are(tensors):
    before = [one.clone() for one in tensors]
    for kind in MERGES:
        some = tensors[:2]
        merged(kind, some, [1, 1], importance=[torch.ones(SHAPE)] * 2)
        assert all(torch.equal(one, was) for one, was in zip(tensors, before, strict=True)), kind
