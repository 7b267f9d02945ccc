"""ORPO: the formula of the paper, and that pairs are learned."""

from __future__ import annotations

import math

import pytest
import torch

from engine.objectives.orpo import odds_ratio
from tests.objectives.workbench import learned, make, pairs, sides, swap_half

WEIGHT = 0.25
MOVED = 0.5
"""The least rise of the log odds that counts as learned: 2.6 (full) and 0.6 (LoRA), with shuffled labels 0.02."""


def by_formula(chosen, rejected):
    """Equations 1, 2, 6 and 7 of arXiv 2403.07691, on the probability per token of both answers."""
    odds = [math.exp(mean) / (1 - math.exp(mean)) for mean in (chosen, rejected)]
    return -chosen - WEIGHT * math.log(1 / (1 + math.exp(-math.log(odds[0] / odds[1]))))


def test_the_loss_is_that_of_the_paper():
    given = sides()
    found = odds_ratio(given, WEIGHT)
    expected = [
        by_formula(*both) for both in zip(given.chosen_mean.tolist(), given.rejected_mean.tolist(), strict=True)
    ]
    assert torch.allclose(found.losses, torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=0)


def test_an_answer_that_is_certain_keeps_the_loss_and_its_gradient_finite():
    given = sides()
    given.chosen.data.zero_()
    given.chosen.requires_grad_(True)
    found = odds_ratio(given, WEIGHT).losses.sum()
    found.backward()
    assert math.isfinite(float(found)) and bool(given.chosen.grad.isfinite().all())


@pytest.mark.parametrize("tuner", [{"kind": "full"}, {"kind": "lora", "rank": 8}], ids=["full", "lora"])
def test_the_odds_of_the_chosen_answers_rise_and_they_are_learned(small_model, tmp_path, tuner):
    trainer = make(small_model, tmp_path, {"kind": "orpo", "odds_weight": 1.0}, pairs(64, 1), pairs(16, 2), tuner=tuner)
    before, after = learned(trainer)
    assert abs(before["eval_log_odds"]) < 0.5
    assert after["eval_log_odds"] - before["eval_log_odds"] > MOVED
    assert after["eval_nll_loss"] < before["eval_nll_loss"] - 0.3


@pytest.mark.parametrize(
    ("swapped", "weight"), [(swap_half, 1.0), (lambda place: False, 0.0)], ids=["shuffled", "zero"]
)
def test_the_odds_stay_with_shuffled_labels_or_without_a_loss(small_model, tmp_path, swapped, weight):
    trainer = make(small_model, tmp_path, {"kind": "orpo", "odds_weight": 1.0}, pairs(64, 1, swapped), pairs(16, 2))
    before, after = learned(trainer, weight=weight)
    assert abs(after["eval_log_odds"] - before["eval_log_odds"]) < MOVED / 4
