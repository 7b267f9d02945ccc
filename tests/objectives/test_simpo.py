"""SimPO: the formula of the paper, and that pairs are learned."""

from __future__ import annotations

import math

import pytest
import torch

from engine.objectives.simpo import simple
from tests.objectives.workbench import learned, make, pairs, sides, swap_half

BETA, MARGIN, SFT = 1.7, 0.6, 0.4
OBJECTIVE = {"kind": "simpo", "beta": 2.0, "margin": 1.0}
MOVED = 1.5
"""The least rise of the margin that counts as learned: 5.9 (full) and 2.1 (LoRA), with shuffled labels 0.3."""


def by_formula(chosen, rejected):
    """Equation 6 of arXiv 2405.14734, on the means of the answers' log-probabilities."""
    return -math.log(1 / (1 + math.exp(-(BETA * chosen - BETA * rejected - MARGIN)))) - SFT * chosen


def test_the_loss_is_that_of_the_paper():
    given = sides()
    expected = [
        by_formula(*both) for both in zip(given.chosen_mean.tolist(), given.rejected_mean.tolist(), strict=True)
    ]
    found = simple(given, BETA, MARGIN, SFT).losses
    assert torch.allclose(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=0)


@pytest.mark.parametrize("tuner", [{"kind": "full"}, {"kind": "lora", "rank": 8}], ids=["full", "lora"])
def test_the_chosen_answers_become_likelier_than_the_rejected(small_model, tmp_path, tuner):
    before, after = learned(make(small_model, tmp_path, OBJECTIVE, pairs(64, 1), pairs(16, 2), tuner=tuner))
    assert after["eval_rewards/margins"] - before["eval_rewards/margins"] > MOVED
    assert after["eval_rewards/accuracies"] == 1.0


@pytest.mark.parametrize(
    ("swapped", "weight"), [(swap_half, 1.0), (lambda place: False, 0.0)], ids=["shuffled", "zero"]
)
def test_nothing_is_learned_of_shuffled_labels_or_without_a_loss(small_model, tmp_path, swapped, weight):
    before, after = learned(make(small_model, tmp_path, OBJECTIVE, pairs(64, 1, swapped), pairs(16, 2)), weight=weight)
    assert abs(after["eval_rewards/margins"] - before["eval_rewards/margins"]) < MOVED / 4
