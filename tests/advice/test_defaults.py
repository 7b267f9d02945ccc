"""Defaults follow from facts, and say why."""

from __future__ import annotations

import pytest

from engine.advice.defaults import complete, defaults
from engine.objectives import OBJECTIVES
from engine.specs.job import parse
from engine.tuners import TUNERS


def facts(**more):
    return {"objective": "sft", "tuner": "lora", "quantization": "none", "num_rows": 300, "device": "cpu", **more}


def value(path, **more):
    return defaults(facts(**more))[path].value


def test_every_objective_and_tuner_has_a_rate():
    rates = {(o, t): value("training.learning_rate", objective=o, tuner=t) for o in OBJECTIVES for t in TUNERS}
    assert all(0 < rate < 1 for rate in rates.values())


def test_lora_takes_larger_steps_than_all_weights_and_sft_than_preferences():
    assert value("training.learning_rate") == 10 * value("training.learning_rate", tuner="full")
    assert value("training.learning_rate") >= 10 * value("training.learning_rate", objective="dpo")


def test_small_models_take_larger_steps_and_the_reason_says_so():
    large, small = (defaults(facts(parameters=n))["training.learning_rate"] for n in (7 * 10**9, 135 * 10**6))
    assert small.value > large.value and small.code == large.code + "_small"


def test_an_optimiser_has_its_own_rate_and_one_that_averages_a_level_schedule():
    assert value("training.learning_rate", optimizer="lion") == 0.2 * value("training.learning_rate", optimizer="adamw")
    assert "training.schedule" not in defaults(facts(optimizer="adamw"))
    assert value("training.schedule", optimizer="schedule_free") == "constant"


def test_fewer_rows_are_seen_more_often():
    counts = (50, 300, 1_000, 10_000, 100_000, 10_000_000)
    epochs = [value("training.epochs", num_rows=n, device="cuda") for n in counts]
    assert epochs == sorted(epochs, reverse=True) and epochs[0] >= 4 and epochs[-1] == 1


def test_a_processor_sees_preference_pairs_once():
    for kind in ("dpo", "kto", "orpo", "simpo", "cpo"):
        assert [value("training.epochs", objective=kind, device=device) for device in ("cuda", "cpu")] == [2, 1]
    assert value("training.epochs", objective="reward", device="cuda") == value("training.epochs", device="cuda")


def test_only_large_models_compute_activations_twice():
    assert "training.gradient_checkpointing" not in defaults(facts(parameters=135 * 10**6))
    assert value("training.gradient_checkpointing", parameters=8 * 10**9) is True


def test_what_is_set_stays_and_what_is_missing_is_filled():
    given = {
        "data": {"dataset": "d"},
        "objective": {"kind": "sft"},
        "tuner": {"kind": "lora"},
        "training": {"epochs": 7, "learning_rate": None},
    }
    filled = complete(given, facts())
    assert filled["training"]["epochs"] == 7 and filled["training"]["learning_rate"] > 0
    assert parse(filled).training.epochs == 7
    assert given["training"]["learning_rate"] is None


def test_a_section_that_is_no_section_is_left_for_the_spec_to_refuse():
    assert complete({"training": "fast"}, facts())["training"] == "fast"


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_every_advice_has_a_code_and_a_source(device):
    for path, advice in defaults(facts(device=device)).items():
        assert path.count(".") == 1 and advice.code and advice.source


def test_a_cpu_sees_the_rows_at_most_twice():
    for rows in (50, 1_000, 10_000):
        assert value("training.epochs", num_rows=rows, device="cpu") == 2
    assert value("training.epochs", num_rows=50, device="cuda") == 4
    assert value("training.epochs", num_rows=10_000_000, device="cpu") == 1
