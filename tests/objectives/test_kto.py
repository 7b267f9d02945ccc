"""KTO: the formula of the paper, that judged answers are learned, and its batches."""

from __future__ import annotations

import math

import pytest
import torch

from engine.objectives.kto import KtoObjective, _others
from engine.specs.job import parse
from engine.specs.problem import ProblemError
from tests.objectives.workbench import judged, learned, make, saying, swap_two_of_four

BETA, GOOD_WEIGHT, BAD_WEIGHT = 0.3, 1.3, 0.8
LABELS = (True, False, False, True)
MOVED = 2.0
"""The least margin that counts as learned: it is 4 with the true labels, 0.7 with shuffled ones."""


class Saying:
    """A model that answers the passes over the other rows' answers first, as the trainer asks for them."""

    def __init__(self, *told):
        self.told = [saying(one) for one in told]

    def __call__(self, **named):
        return self.told.pop(0)(**named)


@pytest.fixture
def batch():
    """Four judged answers of three tokens, random log-probabilities of them, of mismatched ones and of the start."""
    draw = torch.Generator().manual_seed(7)
    mask = torch.tensor([[0, 0, 1, 1, 1]] * len(LABELS))
    own, other = (-2 * torch.rand(4, 4, generator=draw, dtype=torch.float64) * mask[:, 1:] for _ in range(2))
    start, start_other = (-3 * torch.rand(4, generator=draw, dtype=torch.float64) - 1 for _ in range(2))
    inputs = {
        **{f"{name}input_ids": torch.ones_like(mask) for name in ("", "KL_")},
        **{f"{name}attention_mask": torch.ones_like(mask) for name in ("", "KL_")},
        **{f"{name}completion_mask": mask for name in ("", "KL_")},
        "label": torch.tensor(LABELS), "ref_logps": start, "ref_KL_logps": start_other,
    }  # fmt: skip
    return inputs, own, other, start, start_other


def value(x):
    return 1 / (1 + math.exp(-x))


def by_formula(loss, ratios, reference_point):
    """Equations 7 and 8 of arXiv 2402.01306; for APO-zero on single answers equation 7 of arXiv 2408.06266."""
    z = reference_point if loss == "kto" else 0.0
    good = [GOOD_WEIGHT * (1 - value(BETA * (r - z))) for r, label in zip(ratios, LABELS, strict=True) if label]
    bad = [BAD_WEIGHT * (1 - value(BETA * (z - r))) for r, label in zip(ratios, LABELS, strict=True) if not label]
    return sum(good + bad) / len(LABELS)


@pytest.mark.parametrize("loss", ["kto", "apo_zero_unpaired"])
@pytest.mark.parametrize("moved", [6.0, -6.0], ids=["moved", "not moved"])
def test_each_loss_is_that_of_its_paper(small_model, tmp_path, batch, loss, moved):
    inputs, own, other, start, start_other = batch
    inputs["ref_KL_logps"] = start_other = start_other - moved
    objective = {"kind": "kto", "loss": loss, "beta": BETA}
    objective |= {"desirable_weight": GOOD_WEIGHT, "undesirable_weight": BAD_WEIGHT}
    trainer = make(small_model, tmp_path, objective, judged(32, 1), judged(4, 2))
    found = trainer.compute_loss(Saying(other, own) if loss == "kto" else Saying(own), inputs)
    divergence = max(0.0, float((other.sum(dim=1) - start_other).mean()))
    assert (divergence > 0) == (moved > 0)
    expected = by_formula(loss, (own.sum(dim=1) - start).tolist(), divergence)
    assert math.isclose(float(found), expected, rel_tol=1e-12)


@pytest.mark.parametrize("loss", ["kto", "apo_zero_unpaired"])
@pytest.mark.parametrize("reference", ["cached", "live"])
def test_good_answers_become_likelier_and_bad_ones_less(small_model, tmp_path, loss, reference):
    objective = {"kind": "kto", "beta": 0.5, "loss": loss, "reference": reference}
    before, after = learned(make(small_model, tmp_path, objective, judged(64, 1), judged(16, 2)))
    assert abs(before["eval_rewards/margins"]) < 1e-3
    assert after["eval_rewards/margins"] > MOVED
    assert after["eval_rewards/chosen"] > 0 > after["eval_rewards/rejected"]


@pytest.mark.parametrize(
    ("swapped", "weight"), [(swap_two_of_four, 1.0), (lambda place: False, 0.0)], ids=["shuffled", "zero"]
)
def test_nothing_is_learned_of_shuffled_labels_or_without_a_loss(small_model, tmp_path, swapped, weight):
    trainer = make(small_model, tmp_path, {"kind": "kto", "beta": 0.5}, judged(64, 1, swapped), judged(16, 2))
    _, after = learned(trainer, weight=weight)
    assert abs(after["eval_rewards/margins"]) < MOVED / 2


def test_each_row_gets_the_answer_of_another_row_of_its_batch():
    answers = [[number] for number in range(7)]
    assert _others(answers, [[0, 1, 2], [3, 4, 5], [6]]) == [
        [2],
        [0],
        [1],
        [5],
        [3],
        [4],
        [5],
    ]  # the last batch has one row alone
    assert _others(answers[:6], [[0, 2], [4, 1, 3], [5]]) == [[2], [4], [0], [1], [3], [3]]


def test_rows_sorted_by_their_label_are_mixed_before_batches_are_made(small_model, tmp_path):
    rows = sorted(judged(64, 1), key=lambda row: row["label"])
    trainer = make(small_model, tmp_path, {"kind": "kto"}, rows, judged(4, 2))
    labels = trainer.train_dataset["label"][:]
    mixed = [sum(labels[first : first + 16]) for first in range(0, 64, 16)]
    assert sum(labels) == 32 and all(3 <= good <= 13 for good in mixed)
    again = make(small_model, tmp_path, {"kind": "kto"}, rows, judged(4, 2))
    assert again.train_dataset["KL_completion_ids"][:] == trainer.train_dataset["KL_completion_ids"][:]


def test_a_batch_of_one_row_is_refused_where_the_loss_compares_rows():
    def given(loss, rows):
        return {
            "data": {"dataset": "judged"}, "objective": {"kind": "kto", "loss": loss}, "tuner": {"kind": "lora"},
            "training": {"learning_rate": 1e-5, "batch_size": rows},
        }  # fmt: skip

    with pytest.raises(ProblemError) as caught:
        parse(given("kto", 1))
    (problem,) = caught.value.problems
    assert (problem.code, problem.where.field) == ("objective_needs_batch", "training.batch_size")
    assert parse(given("kto", 2)).training.batch_size == 2
    assert parse(given("apo_zero_unpaired", 1)).training.batch_size == 1


def row(**judgement):
    prompt, answer = [{"role": "user", "content": "Ask"}], [{"role": "assistant", "content": "Say it"}]
    return {"prompt": prompt, "completion": answer, "label": None, "score": None, **judgement}


@pytest.mark.parametrize(
    ("judgement", "threshold", "label"),
    [
        ({"label": True}, None, True),
        ({"label": False, "score": 9.0}, 1.0, False),
        ({"score": 3.0}, 3.0, True),
        ({"score": 2.9}, 3.0, False),
        ({"score": 2.9}, None, None),
        ({}, 3.0, None),
    ],
)
def test_a_score_becomes_a_label_by_the_threshold_and_else_the_row_is_left_out(
    small_renderer, judgement, threshold, label
):
    from engine.data.room import Room
    from engine.data.tokens import view

    spec = KtoObjective.Spec(threshold=threshold)
    if label is None:
        with pytest.raises(ProblemError) as caught:
            view(row(**judgement), small_renderer, spec, Room(64))
        assert [one.code for one in caught.value.problems] == ["row_no_label"]
    else:
        (made,) = KtoObjective().tokens(row(**judgement), small_renderer, spec, Room(64))
        assert made["label"] is label
