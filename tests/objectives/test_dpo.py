"""DPO and the losses of its kin: the formulas of the papers, and that pairs are learned."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import logsigmoid

from engine.objectives.dpo import DpoObjective
from engine.specs.base import validate
from engine.specs.problem import ProblemError
from tests.objectives.workbench import learned, make, pairs, saying, swap_half

BETA, SMOOTHING, TAU = 0.3, 0.2, 0.05
LENGTHS = ((2, 3), (4, 1), (3, 3))
"""Tokens of the chosen and the rejected answer of each pair."""
MOVED = 1.0
"""The least margin that counts as learned: shuffled labels give 0.14, the true ones 4.5 (full) and 1.5 (LoRA)."""


def sigma(x):
    return 1 / (1 + torch.exp(-x))


def by_formula(loss, chosen, rejected, lengths):
    """The loss of each pair from the log-ratios of both answers; few lines for each paper."""
    delta = chosen - rejected
    good, bad = (torch.tensor(each, dtype=torch.float64) for each in zip(*lengths, strict=True))
    mean_delta = chosen / good - rejected / bad
    q = sigma(BETA * delta)
    order = (chosen.sort().values - rejected.sort().values) if loss == "aot_unpaired" else delta
    r, s = BETA * chosen, BETA * rejected
    blend = sigma(BETA * delta / TAU)
    return {
        "sigmoid": lambda: -torch.log(q),
        "ipo": lambda: (mean_delta - 1 / (2 * BETA)) ** 2,
        "hinge": lambda: (1 - BETA * delta).clamp(min=0),
        "robust": lambda: (-(1 - SMOOTHING) * torch.log(q) + SMOOTHING * torch.log(1 - q)) / (1 - 2 * SMOOTHING),
        "sigmoid_norm": lambda: -torch.log(sigma(BETA * mean_delta)),
        "exo_pair": lambda: q * torch.log(q / (1 - SMOOTHING)) + (1 - q) * torch.log((1 - q) / SMOOTHING),
        "nca_pair": lambda: -torch.log(sigma(r)) - 0.5 * torch.log(sigma(-r)) - 0.5 * torch.log(sigma(-s)),
        "bco_pair": lambda: -torch.log(sigma(r)) - torch.log(sigma(-s)),
        "sppo_hard": lambda: (chosen - 0.5 / BETA) ** 2 + (rejected + 0.5 / BETA) ** 2,
        "aot_unpaired": lambda: -(1 - SMOOTHING) * logsigmoid(BETA * order) - SMOOTHING * logsigmoid(-BETA * order),
        "apo_zero": lambda: 1 - sigma(r) + sigma(s),
        "apo_down": lambda: sigma(r) + 1 - q,
        "discopop": lambda: -torch.log(q) * (1 - blend) + torch.exp(-BETA * delta) * blend,
    }[loss]()


def aot(policy, reference):
    """Sorted log-ratios of the policy against sorted ones of the reference (Melnyk et al. 2024)."""
    order = (policy[0] - policy[1]).sort().values - (reference[0] - reference[1]).sort().values
    return -(1 - SMOOTHING) * logsigmoid(BETA * order) - SMOOTHING * logsigmoid(-BETA * order)


@pytest.fixture(scope="module")
def batch():
    """Three pairs with random log-probabilities of their tokens, and the start's for whole answers; float64."""
    draw = torch.Generator().manual_seed(11)
    count, width = len(LENGTHS), 2 + max(max(each) for each in LENGTHS)
    mask = torch.zeros(2 * count, width, dtype=torch.long)
    for row, length in enumerate([good for good, _ in LENGTHS] + [bad for _, bad in LENGTHS]):
        mask[row, 2 : 2 + length] = 1
    log_probs = -2 * torch.rand(2 * count, width - 1, generator=draw, dtype=torch.float64) * mask[:, 1:]
    reference = -3 * torch.rand(2, count, generator=draw, dtype=torch.float64)
    inputs = {
        "input_ids": torch.ones_like(mask), "attention_mask": torch.ones_like(mask), "completion_mask": mask,
        "ref_chosen_logps": reference[0], "ref_rejected_logps": reference[1],
    }  # fmt: skip
    return inputs, log_probs, log_probs.sum(dim=1).view(2, count), reference


@pytest.mark.parametrize("loss", DpoObjective.Spec.model_fields["loss"].annotation.__args__)
def test_each_loss_is_that_of_its_paper(small_model, tmp_path, batch, loss):
    inputs, log_probs, policy, reference = batch
    smoothing = SMOOTHING if loss in ("robust", "exo_pair", "aot", "aot_unpaired") else 0.0
    objective = {"kind": "dpo", "loss": loss, "beta": BETA, "label_smoothing": smoothing}
    trainer = make(small_model, tmp_path, objective, pairs(8, 1), pairs(2, 2))
    found = trainer.compute_loss(saying(log_probs), inputs)
    ratios = policy - reference
    expected = aot(policy, reference) if loss == "aot" else by_formula(loss, *ratios, LENGTHS)
    assert found.dtype == torch.float64
    assert math.isclose(float(found), float(expected.mean()), rel_tol=1e-6 if loss == "exo_pair" else 1e-12)


def test_the_sft_term_is_the_mean_loss_of_the_chosen_tokens(small_model, tmp_path, batch):
    inputs, log_probs, policy, reference = batch
    objective = {"kind": "dpo", "beta": BETA, "sft_weight": 0.7}
    found = make(small_model, tmp_path, objective, pairs(8, 1), pairs(2, 2)).compute_loss(saying(log_probs), inputs)
    tokens = sum(good for good, _ in LENGTHS)
    expected = by_formula("sigmoid", *(policy - reference), LENGTHS).mean() - 0.7 * policy[0].sum() / tokens
    assert math.isclose(float(found), float(expected), rel_tol=1e-12)


@pytest.mark.parametrize("reference", ["cached", "live"])
@pytest.mark.parametrize("tuner", [{"kind": "full"}, {"kind": "lora", "rank": 8}], ids=["full", "lora"])
def test_the_chosen_answers_become_likelier_than_the_rejected(small_model, tmp_path, tuner, reference):
    objective = {"kind": "dpo", "beta": 0.5, "reference": reference}
    trainer = make(small_model, tmp_path, objective, pairs(64, 1), pairs(16, 2), tuner=tuner)
    before, after = learned(trainer)
    assert abs(before["eval_rewards/margins"]) < 1e-3
    assert after["eval_rewards/margins"] > MOVED and after["eval_rewards/accuracies"] == 1.0


@pytest.mark.parametrize(
    ("swapped", "weight"), [(swap_half, 1.0), (lambda place: False, 0.0)], ids=["shuffled", "zero"]
)
def test_nothing_is_learned_of_shuffled_labels_or_without_a_loss(small_model, tmp_path, swapped, weight):
    trainer = make(small_model, tmp_path, {"kind": "dpo", "beta": 0.5}, pairs(64, 1, swapped), pairs(16, 2))
    _, after = learned(trainer, weight=weight)
    assert abs(after["eval_rewards/margins"]) < MOVED / 4


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"label_smoothing": 0.1}, "objective_smoothing_unused"),
        ({"loss": "exo_pair"}, "objective_smoothing_needed"),
        ({"label_smoothing": 0.5, "loss": "robust"}, "spec_not_below"),
    ],
)
def test_a_share_of_wrong_labels_fits_the_loss(given, code):
    with pytest.raises(ProblemError) as caught:
        validate(DpoObjective.Spec, given)
    assert [one.code for one in caught.value.problems] == [code]
