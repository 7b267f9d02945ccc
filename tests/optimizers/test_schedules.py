"""The learning rate at chosen steps is the formula's, and a run follows it."""

from __future__ import annotations

import math

import pytest

from engine.optimizers.schedules import Course, factor
from engine.runtime.optimising import optimising
from tests.optimizers.training import make_trainer, spec_of

COURSE = Course(total=110, warm=10, final=0.1, decay_share=0.2, power=3.0)


@pytest.mark.parametrize(
    ("schedule", "step", "share"),
    [
        ("cosine", 35, 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi / 4))),
        ("cosine", 110, 0.1),
        ("linear", 35, 0.1 + 0.9 * 0.75),
        ("linear", 110, 0.1),
        ("polynomial", 60, 0.1 + 0.9 * 0.5**3),
        ("wsd", 87, 1.0),
        ("wsd", 99, 0.1 + 0.9 * (1 - math.sqrt(11 / 22))),
        ("wsd", 110, 0.1),
        ("constant", 109, 1.0),
    ],
)
def test_a_schedule_is_its_formula(schedule, step, share):
    at = factor(schedule, COURSE)
    assert at(step) == pytest.approx(share)
    assert [at(0), at(5), at(10)] == pytest.approx([0.0, 0.5, 1.0]), "the warm-up rises evenly"


def test_a_number_of_warm_up_steps_wins_over_the_share():
    assert optimising(spec_of(warmup_ratio=0.5)).share(40)(10) == 0.5
    assert optimising(spec_of(warmup_ratio=0.5, warmup_steps=5)).share(40)(4) == 0.8
    assert optimising(spec_of(warmup_ratio=0.5, warmup_steps=0)).share(40)(0) == 1.0
    assert optimising(spec_of(warmup_steps=900)).share(40)(20) == 0.5, "never longer than the run"


def test_a_run_follows_the_schedule(mini_model, tmp_path):
    spec = spec_of(steps=4, schedule="wsd", decay_share=0.5, warmup_steps=1, final_rate=0.25)
    trainer = make_trainer(mini_model, tmp_path, spec)
    trainer.train()
    rates = [one["learning_rate"] / 1e-3 for one in trainer.state.log_history if "learning_rate" in one]
    assert rates == pytest.approx([0.0, 1.0, 1.0, 0.25 + 0.75 * (1 - math.sqrt(0.5))])
