"""What a run in phases is divided into: each with the tuner, the rate and the warm-up that hold for it."""

from __future__ import annotations

from engine.runtime.phases import stretches
from engine.specs.job import parse


def spec(tuner, **training):
    data = {"data": {"dataset": "rows"}, "objective": {"kind": "sft"}, "tuner": tuner}
    return parse({**data, "training": {"learning_rate": 1e-5, **training}})


def test_most_tuners_have_one():
    whole = spec({"kind": "lora"}, warmup_steps=3)
    (only,) = stretches(whole, 10)
    assert (only.spec, only.began_at, only.until) == (whole, 0, 10)


def test_the_second_warms_up_by_its_own_share_whatever_number_of_steps_the_first_does():
    tuner = {"kind": "full_then_lora", "full_share": 0.3, "warmup_ratio": 0.25, "rate_factor": 4.0}
    first, second = stretches(spec(tuner, warmup_steps=2), 10)
    assert (first.until, first.spec.tuner.kind, first.spec.training.warmup_steps) == (3, "full", 2)
    assert (second.began_at, second.until, second.spec.tuner.kind) == (3, 10, "lora")
    training = second.spec.training
    assert (training.warmup_steps, training.warmup_ratio, training.learning_rate) == (None, 0.25, 4e-5)
