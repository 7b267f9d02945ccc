"""Which weight learns at which rate."""

from __future__ import annotations

import pytest

from engine.models.loading import load_model
from engine.optimizers.groups import Rates, groups
from engine.tuners import TUNERS
from engine.tuners.protocol import Given
from tests.optimizers.training import make_trainer, spec_of


def rates_of(model, rates, decayed=()):
    """The rate, the decay and the group's other settings of each weight by name."""
    names = {id(weight): name for name, weight in model.named_parameters()}
    made = groups(model, decayed, rates)
    assert made[0]["lr"] == rates.rate, "the curve shows the first group's"
    return {names[id(one)]: group for group in made for one in group["params"]}


def with_lora(folder):
    tuner = TUNERS["lora"]
    spec = tuner.Spec(rank=2)
    return tuner.prepare(load_model(folder, dtype="float32"), spec, Given("CAUSAL_LM", 1, None, None))


def test_layers_learn_slower_the_further_they_are_from_the_output(mini_model):
    found = rates_of(load_model(mini_model, dtype="float32"), Rates(0.1, 0.0, layer_decay=0.5))
    assert {name: group["lr"] for name, group in found.items() if "q_proj" in name or "layers" not in name} == {
        "model.embed_tokens.weight": 0.1 * 0.5**2,
        "model.layers.0.self_attn.q_proj.weight": 0.1 * 0.5,
        "model.layers.1.self_attn.q_proj.weight": 0.1,
        "model.norm.weight": 0.1,
    }


def test_the_second_matrices_of_lora_learn_faster_and_both_ways_go_together(mini_model):
    found = rates_of(with_lora(mini_model), Rates(0.1, 0.0, layer_decay=0.5, lora_plus=16.0))
    assert len(found) == 2 * 2 * 7, "every trained weight is in one group"
    for name, group in found.items():
        layer = 0.5 if ".layers.0." in name else 1.0
        assert group["lr"] == pytest.approx(0.1 * layer * (16.0 if "lora_B" in name else 1.0))


def test_weight_decay_pulls_at_what_the_library_says_and_muon_takes_the_matrices_of_the_layers(mini_model):
    model = load_model(mini_model, dtype="float32")
    decayed = [name for name, _ in model.named_parameters() if "norm" not in name]
    found = rates_of(model, Rates(0.1, 0.3, by_matrix=True), decayed)
    assert {name for name, group in found.items() if group["weight_decay"] == 0.3} == set(decayed)
    orthogonal = {name for name, group in found.items() if group["matrix"]}
    assert orthogonal == {name for name in found if name.endswith("_proj.weight")}


def test_a_run_has_the_rates_of_its_settings(mini_model, tmp_path):
    spec = spec_of(tuner={"kind": "lora", "rank": 2, "lora_plus_ratio": 4.0}, layer_decay=0.5, steps=2)
    trainer = make_trainer(mini_model, tmp_path, spec)
    trainer.train()
    rates = sorted({group["initial_lr"] for group in trainer.optimizer.param_groups if group["params"]})
    assert rates == pytest.approx([5e-4, 1e-3, 2e-3, 4e-3])
    assert next(one["learning_rate"] for one in trainer.state.log_history) == 1e-3
