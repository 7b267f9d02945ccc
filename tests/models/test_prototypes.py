"""Labels without training: the formulas against a few lines of numpy, and on problems that they can and cannot solve."""

from __future__ import annotations

import numpy
import pytest
import torch

from engine.models import prototypes
from engine.models.loading import load_model
from engine.models.prototypes import Prototypes, RandomProjection, class_means, embed
from engine.tuners import TUNERS
from engine.tuners.protocol import Given


def clouds(number, *, apart=3.0, seed=0, size=16):
    """Four classes around points of their own; the third reading of them is noise."""
    draw = numpy.random.default_rng(seed)
    labels = draw.integers(0, 4, number)
    centres = numpy.random.default_rng(7).standard_normal((4, size))
    rows = apart * centres[labels] + draw.standard_normal((number, size))
    noise = draw.standard_normal((number, size))
    return {"mean": rows.astype(numpy.float32), "last": noise.astype(numpy.float32)}, labels


def test_class_means_take_the_smallest_angle():
    rows = numpy.array([[2, 0], [4, 0], [0, 1], [0, 3]], dtype=numpy.float32)
    say = class_means(rows, numpy.array([0, 0, 2, 2]), 4)
    assert say(numpy.array([[9, 8], [1, 2], [-1, 0]], dtype=numpy.float32)).tolist() == [0, 2, 2], (
        "1 and 3 have no rows"
    )


@pytest.mark.parametrize("number", [40, 300])
def test_random_projection_is_the_ridge_regression_of_the_paper(monkeypatch, number):
    monkeypatch.setattr(
        prototypes, "WIDTH", 64
    )  # with 40 rows one equation for each row is solved, with 300 the paper's
    features, labels = clouds(number)
    rows = features["mean"].astype(float)
    drawn = numpy.random.default_rng(0).standard_normal((16, 64)) / 4
    hidden, target = numpy.maximum(rows @ drawn, 0), numpy.eye(4)[labels]
    gram, prototypes_of = (
        sum(numpy.outer(h, h) for h in hidden),
        sum(numpy.outer(h, y) for h, y in zip(hidden, target, strict=True)),
    )
    weights = numpy.linalg.inv(gram + 0.5 * numpy.eye(64)) @ prototypes_of
    asked, _ = clouds(50, seed=3)
    expected = (numpy.maximum(asked["mean"] @ drawn, 0) @ weights).argmax(1)
    assert RandomProjection(rows, labels, 4).solved(0.5)(asked["mean"]).tolist() == expected.tolist()


def test_both_find_classes_that_lie_apart_and_choose_the_reading_that_tells_them():
    features, labels = clouds(300)
    made = Prototypes(features, labels, 4)
    assert made.means_of == "mean" and made.projection_of[0] == "mean"
    asked, right = clouds(200, seed=5)
    for said in made.predict(asked).values():
        assert (said == right).mean() > 0.9


def test_neither_finds_what_is_not_there():
    features, labels = clouds(300, apart=0.0)
    asked, right = clouds(200, apart=0.0, seed=5)
    for said in Prototypes(features, labels, 4).predict(asked).values():
        assert (said == right).mean() < 0.4


def test_a_row_is_read_alike_alone_and_among_longer_ones_and_without_its_adapter(mini_model):
    model = load_model(mini_model, dtype="float32")
    rows = [[10, 11, 12], [20, 21, 22, 23, 24, 2], [30]]
    together = embed(model, rows, at_once=3)
    alone = [embed(model, [row], at_once=1) for row in rows]
    for name in ("mean", "last"):
        numpy.testing.assert_allclose(together[name], numpy.concatenate([one[name] for one in alone]), atol=1e-5)
    states = model.model(input_ids=torch.tensor([rows[0]])).last_hidden_state[0].detach().numpy()
    numpy.testing.assert_allclose(together["mean"][0], states.mean(0), atol=1e-5)
    numpy.testing.assert_allclose(together["last"][0], states[-1], atol=1e-5)
    tuner = TUNERS["lora"]
    adapted = tuner.prepare(model, tuner.Spec(rank=2), Given("CAUSAL_LM", 1, None, None))
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            weight.data.fill_(1.0)
    numpy.testing.assert_allclose(embed(adapted, rows, at_once=2)["mean"], together["mean"], atol=1e-5)
