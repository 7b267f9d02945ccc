"""Reward models: the formulas of both losses, that pairs and scores are learned, and where the score is read."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from engine.data.room import Room
from engine.models.scoring import Scorer, padding_id, scores_of
from engine.objectives.reward import RewardObjective
from engine.specs.problem import ProblemError
from tests.objectives.workbench import BAD, END, GOOD, learned, make, prompts

MOVED = 1.0
"""The least rise of the margin that counts as learned: 1.3 to 3.2, with shuffled labels at most 0.3."""


def whole_pairs(count, seed, swapped=lambda place: False):
    rows = []
    for place, prompt in enumerate(prompts(count, seed)):
        sides = [[*prompt, GOOD, END], [*prompt, BAD, END]]
        chosen, rejected = sides[::-1] if swapped(place) else sides
        rows.append({"chosen_ids": chosen, "rejected_ids": rejected})
    return rows


def scored(count, seed, swapped=lambda place: False):
    """Good answers have 8 of 10 points, bad ones 2; those that are `swapped` have the other's."""
    rows = []
    for place, prompt in enumerate(prompts(count, seed)):
        good = place % 2 == 0
        rows.append(
            {"input_ids": [*prompt, GOOD if good else BAD, END], "score": 8.0 if good != swapped(place) else 2.0}
        )
    return rows


TASKS = {"pairs": whole_pairs, "scores": scored}
SHUFFLED = {"pairs": lambda place: place % 2 == 0, "scores": lambda place: place % 4 < 2}


def scoring(values):
    """A model that gives these scores."""
    return lambda **named: SimpleNamespace(logits=torch.tensor(values, dtype=torch.float64)[:, None])


def test_the_loss_of_pairs_is_bradley_terrys_with_centring(small_model, tmp_path):
    trainer = make(small_model, tmp_path, {"kind": "reward", "centring": 0.05}, whole_pairs(8, 1), whole_pairs(2, 2))
    chosen, rejected = [0.7, -1.2, 2.0], [0.1, 0.4, -0.3]
    found = trainer.compute_loss(scoring(chosen + rejected), {"attention_mask": torch.ones(6, 2)})
    both = list(zip(chosen, rejected, strict=True))
    compared = sum(-math.log(1 / (1 + math.exp(-(good - bad)))) for good, bad in both) / 3
    assert math.isclose(float(found), compared + 0.05 * sum((good + bad) ** 2 for good, bad in both) / 3, rel_tol=1e-12)


def test_the_loss_of_scores_is_the_squared_error_in_units_of_their_variance(small_model, tmp_path):
    trainer = make(small_model, tmp_path, {"kind": "reward"}, scored(8, 1), scored(2, 2))
    inputs = {"input_ids": torch.ones(3, 2), "attention_mask": torch.ones(3, 2)}
    inputs |= {"score": torch.tensor([8.0, 2.0, 6.5]), "tasks": torch.zeros(3, dtype=torch.long)}
    found = trainer.compute_loss(scoring([0.4, 0.1, 1.5]), inputs)
    expected = sum((value - (score - 5) / 3) ** 2 for value, score in ((0.4, 8), (0.1, 2), (1.5, 6.5))) / 3
    assert math.isclose(float(found), expected, rel_tol=1e-7)
    always_the_mean = trainer.compute_loss(
        scoring([0.0, 0.0]), {**inputs, "score": torch.tensor([8.0, 2.0]), "tasks": torch.zeros(2)}
    )
    assert float(always_the_mean) == pytest.approx(1.0)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("tuner", [{"kind": "full"}, {"kind": "lora", "rank": 8}], ids=["full", "lora"])
def test_good_answers_get_higher_scores_than_bad_ones(small_model, tmp_path, task, tuner):
    rows = TASKS[task]
    trainer = make(small_model, tmp_path, {"kind": "reward"}, rows(64, 1), rows(16, 2), tuner=tuner)
    head = next(weight for name, weight in trainer.model.named_parameters() if "score" in name and weight.requires_grad)
    first = head.detach().clone()
    before, after = learned(trainer)
    assert after["eval_accuracy"] > 0.85
    assert after["eval_margin"] - before["eval_margin"] > MOVED
    assert not head.equal(first), "the head moves, whatever the tuner is"


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("weight", [1.0, 0.0], ids=["shuffled", "zero"])
def test_nothing_is_learned_of_shuffled_labels_or_without_a_loss(small_model, tmp_path, task, weight):
    rows = TASKS[task](64, 1, SHUFFLED[task] if weight else lambda place: False)
    trainer = make(small_model, tmp_path, {"kind": "reward"}, rows, TASKS[task](16, 2))
    before, after = learned(trainer, weight=weight)
    assert abs(after["eval_margin"] - before["eval_margin"]) < MOVED / 2


def test_scores_that_are_all_the_same_are_refused(small_model, tmp_path):
    rows = [{**row, "score": 3.0} for row in scored(8, 1)]
    with pytest.raises(ProblemError) as caught:
        make(small_model, tmp_path, {"kind": "reward"}, rows, rows)
    assert [one.code for one in caught.value.problems] == ["data_scores_equal"]


def test_a_row_without_a_score_is_left_out_with_its_reason(small_renderer):
    prompt, answer = [{"role": "user", "content": "Ask"}], [{"role": "assistant", "content": "Say it"}]
    row = {"prompt": prompt, "completion": answer, "label": True, "score": None}
    with pytest.raises(ProblemError) as caught:
        RewardObjective().tokens(row, small_renderer, RewardObjective.Spec(), Room(64))
    assert [one.code for one in caught.value.problems] == ["row_no_score"]
    (made,) = RewardObjective().tokens({**row, "score": 4}, small_renderer, RewardObjective.Spec(), Room(64))
    assert made["score"] == 4.0 and made["input_ids"][-1] == END


def test_the_score_is_read_at_the_last_token_though_rows_are_filled_up(small_model, tmp_path):
    trainer = make(small_model, tmp_path, {"kind": "reward"}, whole_pairs(8, 1), whole_pairs(2, 2))
    tokenizer = trainer.processing_class
    padding = tokenizer.pad_token_id
    assert padding not in (END, tokenizer.eos_token_id) and trainer.model.config.pad_token_id == padding
    model = trainer.model.eval()
    rows = [[600, GOOD, END], [600, 601, 602, BAD, END], [600, END]]
    together = scores_of(model, rows, padding)
    with torch.inference_mode():
        alone = []
        for row in rows:
            hidden = model.model(torch.tensor([row])).last_hidden_state[0, -1]
            alone.append(float(model.score(hidden)))
    assert together == pytest.approx(alone, abs=1e-5)
    assert len(set(together)) == 3
    batch = trainer.data_collator([{"chosen_ids": rows[0], "rejected_ids": rows[1]}])
    assert batch["input_ids"][0].tolist() == [*rows[0], padding, padding]


@pytest.mark.parametrize("tuner", [{"kind": "full"}, {"kind": "lora", "rank": 8}], ids=["full", "lora"])
def test_a_saved_reward_model_gives_the_scores_that_it_was_trained_to(tiny_model, tmp_path, tuner):
    rows = whole_pairs(64, 1)

    def save(step, write):
        (tmp_path / f"saved-{step}").mkdir()
        write(tmp_path / f"saved-{step}")

    trainer = make(tiny_model, tmp_path, {"kind": "reward"}, rows, whole_pairs(4, 2), tuner=tuner, steps=6, save=save)
    trainer.train()
    saved = next(tmp_path.glob("saved-*"))
    is_adapter = tuner["kind"] == "lora"
    base, adapter = (tiny_model, saved) if is_adapter else (saved, None)
    scorer = Scorer(base, adapter, quantization="none", dtype="float32", device="cpu")
    said = [
        [{"role": "user", "content": "Ask"}, {"role": "assistant", "content": text}]
        for text in ("a", "a much longer answer", "b")
    ]
    ids = [scorer._ids(one) for one in said]
    expected = scores_of(trainer.model.eval(), ids, trainer.processing_class.pad_token_id)
    assert scorer.scores(said) == pytest.approx(expected, abs=1e-5)
    assert scorer.scores(said[1:2]) == pytest.approx(expected[1:2], abs=1e-5)


def test_weights_without_a_head_of_scores_are_refused(small_model):
    with pytest.raises(ProblemError) as caught:
        Scorer(small_model, None, quantization="none", dtype="float32", device="cpu")
    assert [one.code for one in caught.value.problems] == ["model_no_score_head"]


def test_what_rows_are_filled_up_with_never_ends_an_answer(small_renderer):
    for pad, unknown, first in ((END, 0, 1), (0, None, 1), (END, None, 1), (END, END, END)):
        tokenizer = SimpleNamespace(
            pad_token_id=pad, unk_token_id=unknown, bos_token_id=first, all_special_ids=[END],
            added_tokens_encoder={"<|im_end|>": END, "<other>": 5}, vocab_size=9,
        )  # fmt: skip
        assert padding_id(tokenizer, small_renderer) in (0, 1, 5)
