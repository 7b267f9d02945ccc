"""Every optimiser learns, keeps as much as is said, and goes on after a kill as if there had been none."""

from __future__ import annotations

from typing import get_args

import pytest
import torch

from engine.optimizers import OPTIMIZERS
from engine.optimizers.schedules import SCHEDULES
from engine.runtime.optimising import optimising
from engine.specs.job import TrainingPart
from tests.optimizers.training import losses, make_trainer, spec_of, weights

RATES = {"sgd": 0.5, "lion": 3e-4, "lion_8bit": 3e-4}


def changes(name):
    more = {"schedule": "constant"} if OPTIMIZERS[name].averages else {}
    return {"optimizer": name, "learning_rate": RATES.get(name, 2e-3), **more}


def test_the_choices_of_the_form_are_those_of_the_catalogue():
    choices = {name: get_args(field.annotation) for name, field in TrainingPart.model_fields.items()}
    assert choices["optimizer"] == tuple(OPTIMIZERS)
    assert choices["schedule"] == tuple(SCHEDULES)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_it_lowers_the_loss_and_resumes_to_the_last_bit(mini_model, tmp_path, name):
    whole = make_trainer(mini_model, tmp_path / "whole", spec_of(steps=6, **changes(name)), save_every=4)
    whole.train()
    seen = losses(whole)
    assert seen[-1][1] < seen[0][1] - 0.3
    assert held_bytes(whole) == pytest.approx(OPTIMIZERS[name].state_bytes, abs=0.1)
    resume = tmp_path / "whole" / "checkpoint-4"
    again = make_trainer(mini_model, tmp_path / "again", spec_of(steps=6, **changes(name)), resume=resume, save_every=9)
    again.train(resume_from_checkpoint=str(resume))
    assert losses(again) == seen
    ended, expected = weights(again.model), weights(whole.model)
    assert all(ended[key].equal(expected[key]) for key in expected)


def held_bytes(trainer):
    """What is kept for each weight of the layers; 8-bit optimisers keep more for embeddings and for small weights."""
    layers = [one for key, one in trainer.model.named_parameters() if ".mlp." in key]
    kept = [value for weight in layers for value in trainer.optimizer.state[weight].values()]
    kept = [getattr(value, "ortho_matrix", value) for value in kept]
    large = [value for value in kept if isinstance(value, torch.Tensor) and value.numel() > 256]
    return sum(one.numel() * one.element_size() for one in large) / sum(one.numel() for one in layers)


@pytest.mark.parametrize(("name", "matrix"), [("adamw", 8), ("sgd", 0), ("muon", 4), ("galore", 2.5)])
def test_what_will_be_kept_is_counted_by_weight(name, matrix):
    weights = {"model.layers.0.mlp.up_proj.weight": torch.ones(8, 16), "model.embed_tokens.weight": torch.ones(32, 8)}
    kept = optimising(spec_of(**changes(name))).kept_bytes(weights)
    assert OPTIMIZERS[name].state_bytes == matrix
    assert kept == 128 * matrix + 256 * (8 if name in ("muon", "galore") else matrix), "embeddings: as AdamW, or alike"


def test_the_first_step_of_sgd_and_of_lion_is_their_formula():
    start, gradient, rate, decay = torch.randn(64, 80), torch.randn(64, 80), 0.01, 0.1
    assert stepped("sgd", start, gradient, rate, decay).allclose(start - rate * (gradient + decay * start))
    moved = start - rate * (gradient.sign() + decay * start)
    assert stepped("lion", start, gradient, rate, decay).allclose(moved, atol=1e-6)


def test_adafactor_keeps_rows_and_columns_alone():
    start, gradient, rate = torch.randn(64, 80), torch.randn(64, 80), 0.01
    square = gradient**2 + 1e-30
    estimate = square.mean(1, keepdim=True) * square.mean(0, keepdim=True) / square.mean()
    update = gradient / estimate.sqrt()
    update /= max(1.0, update.pow(2).mean().sqrt().item())
    assert stepped("adafactor", start, gradient, rate, 0.0).allclose(start - rate * update, atol=1e-5)


def test_muon_turns_a_matrix_of_a_layer_by_an_orthogonal_step_and_the_rest_as_adamw_does():
    start, gradient, rate = torch.randn(48, 80), torch.randn(48, 80), 0.01
    left, _, right = torch.linalg.svd(gradient, full_matrices=False)
    step = (start - stepped("muon", start, gradient, rate, 0.0, matrix=True)) / (rate * 0.2 * 80**0.5)
    singular = torch.linalg.svdvals(step)
    assert singular.min() > 0.5 and singular.max() < 1.5, "Jordan 2024: near one, not equal"
    assert torch.nn.functional.cosine_similarity(step.flatten(), (left @ right).flatten(), dim=0) > 0.97
    ours, theirs = (stepped(name, start, gradient, rate, 0.1, matrix=False) for name in ("muon", "adamw"))
    assert ours.allclose(theirs, atol=1e-7)


def test_galore_moves_a_matrix_in_a_quarter_of_its_directions_and_the_rest_as_adamw_does():
    start, gradient, rate = torch.randn(80, 48), torch.randn(80, 48), 0.01
    step = (start - stepped("galore", start, gradient, rate, 0.0, matrix=True)) / rate
    _, _, right = torch.linalg.svd(gradient, full_matrices=False)
    within = gradient @ right[:12].T
    expected = (within / (within.abs() + 1e-8)) @ right[:12]
    assert step.allclose(expected, atol=1e-4) and torch.linalg.matrix_rank(step, atol=1e-3) == 12
    ours, theirs = (stepped(name, start, gradient, rate, 0.0, matrix=False) for name in ("galore", "adamw"))
    assert ours.allclose(theirs, atol=1e-5)


def test_what_galore_keeps_is_read_without_a_pickle(tmp_path):
    weight = torch.nn.Parameter(torch.randn(80, 48))
    made, arguments = OPTIMIZERS["galore"].make(0.01)
    first, second = (made([{"params": [weight], "weight_decay": 0.0, "matrix": True}], **arguments) for _ in range(2))
    weight.grad = torch.randn(80, 48)
    first.step()
    torch.save(first.state_dict(), tmp_path / "state.pt")
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    before, found = weight.detach().clone(), []
    for one in (first, second):
        weight.data.copy_(before)
        one.step()
        found.append(weight.detach().clone())
    assert torch.equal(*found) and not torch.equal(found[0], before)


def test_schedule_free_steps_are_those_of_the_paper_with_its_three_sequences():
    torch.manual_seed(1)
    weight = torch.nn.Parameter(torch.randn(6, 5))
    x, z, square = weight.detach().clone(), weight.detach().clone(), torch.zeros(6, 5)
    made, arguments = OPTIMIZERS["schedule_free"].make(0.1)
    optimizer = made([{"params": [weight], "weight_decay": 0.05}], **arguments)
    weighed = 0.0
    for number, rate in enumerate((0.05, 0.1, 0.1, 0.1), start=1):
        optimizer.param_groups[0]["lr"] = rate
        y, gradient = weight.detach().clone(), torch.randn(6, 5)
        assert y.allclose(0.1 * z + 0.9 * x, atol=1e-6)
        weight.grad = gradient.clone()
        optimizer.step()
        square = 0.999 * square + 0.001 * gradient**2
        z = z - rate * (gradient / ((square / (1 - 0.999**number)).sqrt() + 1e-8) + 0.05 * y)
        weighed += rate**2
        x = (1 - rate**2 / weighed) * x + rate**2 / weighed * z
        assert optimizer.published(weight).allclose(x, atol=1e-5)


def stepped(name, start, gradient, rate, decay, **group):
    """A weight after one step."""
    weight = torch.nn.Parameter(start.clone())
    made, arguments = OPTIMIZERS[name].make(rate)
    optimizer = made([{"params": [weight], "weight_decay": decay, **group}], **arguments)
    weight.grad = gradient.clone()
    optimizer.step()
    return weight.detach()
