"""Supervised fine-tuning learns the answers, weighs what it was told to, and nothing without answers to learn."""

from __future__ import annotations

import math
import random

import pytest
import torch

from engine.data.render import Renderer
from engine.data.room import Room
from engine.models.loading import load_tokenizer
from engine.models.token_loss import weighted_loss
from engine.objectives import OBJECTIVES
from tests.objectives.rowbench import Bench

PAIRS = {"sun": "red", "sea": "blue", "leaf": "green", "snow": "white", "coal": "black", "corn": "gold"}
GUESSING = math.log(len(PAIRS)) / 2
"""Loss of a model that knows the six answers but not which: an answer is a word and the end of its turn."""


def rows(numbers, answers=PAIRS):
    return [
        {
            "messages": [
                {"role": "user", "content": f"{number} {thing}"},
                {"role": "assistant", "content": answers[thing] if isinstance(answers, dict) else answers()},
            ]
        }
        for number in numbers
        for thing in PAIRS
    ]


@pytest.fixture
def bench(tiny_model, tmp_path):
    torch.manual_seed(0)
    return Bench(tiny_model, tmp_path)


@pytest.mark.parametrize("settings", [{}, {"neftune_alpha": 0.5}], ids=["nll", "noise"])
def test_it_learns_which_answer_belongs_to_what(bench, settings):
    made = bench.trainer({"kind": "sft", **settings}, rows(range(20)), rows(range(20, 24)))
    before = made.evaluate()["eval_loss"]
    made.train()
    after = made.evaluate()["eval_loss"]
    assert before > 5 and after < GUESSING / 2


def test_dynamic_fine_tuning_learns_most_where_the_model_already_inclines(bench):
    """From random weights it learns how answers look, and little of what is still unlikely."""
    made = bench.trainer({"kind": "sft", "loss": "dft"}, rows(range(20)), rows(range(20, 24)))
    before = made.evaluate()["eval_loss"]
    made.train()
    assert 0.3 < made.evaluate()["eval_loss"] < before - 5


def test_with_shuffled_answers_it_can_only_guess(bench):
    draw = random.Random(0)
    shuffled = rows(range(20), lambda: draw.choice(list(PAIRS.values())))
    made = bench.trainer({"kind": "sft"}, shuffled, rows(range(20, 24)))
    made.train()
    assert made.evaluate()["eval_loss"] > 0.8 * GUESSING


def test_with_a_loss_of_zero_it_learns_nothing(bench):
    made = bench.trainer({"kind": "sft"}, rows(range(20)), rows(range(20, 24)))
    before = made.evaluate()["eval_loss"]
    whole = made.compute_loss
    made.compute_loss = lambda *given, **named: 0.0 * whole(*given, **named)
    made.train()
    assert made.evaluate()["eval_loss"] == pytest.approx(before, rel=1e-6)


def test_the_loss_is_that_of_the_paper_on_fixed_probabilities():
    """Dynamic fine-tuning: Wu et al. 2025, equation 9; the head gives log-probabilities of our choice."""
    chances = torch.tensor([0.5, 0.25, 0.1], dtype=torch.float64)
    hidden = torch.stack([torch.stack([chance.log(), (1 - chance).log()]) for chance in chances])
    head = torch.nn.Linear(2, 2, bias=False).double()
    head.weight.data = torch.eye(2, dtype=torch.float64)
    targets, weights = torch.zeros(3, dtype=torch.long), torch.tensor([1.0, 1.0, 2.0])
    plain = weighted_loss(hidden, head, targets, weights)[0]
    dynamic = weighted_loss(hidden, head, targets, weights, dynamic=True)[0]
    assert plain.item() == pytest.approx(-(math.log(0.5) + math.log(0.25) + 2 * math.log(0.1)), rel=1e-6)
    expected = -(0.5 * math.log(0.5) + 0.25 * math.log(0.25) + 2 * 0.1 * math.log(0.1))
    assert dynamic.item() == pytest.approx(expected, rel=1e-6)


def test_trained_prompts_are_marked_where_they_weigh_less(starter):
    renderer = Renderer(load_tokenizer(starter))
    row = rows([1])[0]
    spec = OBJECTIVES["sft"].Spec(train_on_prompt=True, prompt_weight=0.1)
    (made,) = OBJECTIVES["sft"].tokens(row, renderer, spec, Room(512))
    (plain,) = OBJECTIVES["sft"].tokens(row, renderer, OBJECTIVES["sft"].Spec(), Room(512))
    assert [prompt == 0 for prompt in made["prompt"]] == [label != -100 for label in plain["labels"]]
    assert "prompt" not in plain
