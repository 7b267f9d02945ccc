"""CPO: the formulas of the papers, and that pairs are learned."""

from __future__ import annotations

import math

import pytest
import torch

from engine.objectives.cpo import LOSSES, CpoObjective, contrastive
from engine.specs.base import validate
from engine.specs.problem import ProblemError
from tests.objectives.workbench import learned, make, pairs, sides, swap_half

BETA, SFT, SMOOTHING = 0.3, 0.6, 0.2
OBJECTIVE = {"kind": "cpo", "beta": 0.5}
MOVED = 1.0
"""The least rise of the margin that counts as learned: at least 1.6 with each loss, with shuffled labels 0.002."""


def by_formula(loss, chosen, rejected, mean_chosen, mean_rejected):
    """Equation 3 of arXiv 2401.08417 with its other losses: SLiC's, and equation 17 of arXiv 2310.12036."""
    sigma = 1 / (1 + math.exp(-BETA * (chosen - rejected)))
    compared = {
        "sigmoid": -(1 - SMOOTHING) * math.log(sigma) - SMOOTHING * math.log(1 - sigma),
        "hinge": max(0.0, 1 - BETA * (chosen - rejected)),
        "ipo": (mean_chosen - mean_rejected - 1 / (2 * BETA)) ** 2,
    }
    return compared[loss] - SFT * mean_chosen


@pytest.mark.parametrize("loss", LOSSES)
def test_each_loss_is_that_of_its_paper(loss):
    given = sides()
    smoothing = SMOOTHING if loss == "sigmoid" else 0.0
    spec = CpoObjective.Spec(loss=loss, beta=BETA, sft_weight=SFT, label_smoothing=smoothing)
    columns = (given.chosen, given.rejected, given.chosen_mean, given.rejected_mean)
    expected = [by_formula(loss, *row) for row in zip(*(one.tolist() for one in columns), strict=True)]
    found = contrastive(given, spec).losses
    assert torch.allclose(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=0)


def test_every_loss_that_can_be_chosen_is_there():
    assert tuple(LOSSES) == CpoObjective.Spec.model_fields["loss"].annotation.__args__


@pytest.mark.parametrize("loss", LOSSES)
def test_the_chosen_answers_become_likelier_than_the_rejected(small_model, tmp_path, loss):
    before, after = learned(make(small_model, tmp_path, {**OBJECTIVE, "loss": loss}, pairs(64, 1), pairs(16, 2)))
    assert after["eval_rewards/margins"] - before["eval_rewards/margins"] > MOVED


@pytest.mark.parametrize(
    ("swapped", "weight"), [(swap_half, 1.0), (lambda place: False, 0.0)], ids=["shuffled", "zero"]
)
def test_nothing_is_learned_of_shuffled_labels_or_without_a_loss(small_model, tmp_path, swapped, weight):
    before, after = learned(make(small_model, tmp_path, OBJECTIVE, pairs(64, 1, swapped), pairs(16, 2)), weight=weight)
    assert abs(after["eval_rewards/margins"] - before["eval_rewards/margins"]) < MOVED / 4


def test_a_share_of_wrong_labels_is_for_one_loss():
    with pytest.raises(ProblemError) as caught:
        validate(CpoObjective.Spec, {"loss": "hinge", "label_smoothing": 0.1})
    assert [one.code for one in caught.value.problems] == ["objective_smoothing_unused"]
