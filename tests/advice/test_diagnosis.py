"""Curves are read as practitioners read them."""

from __future__ import annotations

import math
import random

import pytest

from engine.advice.diagnosis import diagnose


def curve(function, count=40):
    return [(step, function(step)) for step in range(1, count + 1)]


FALLING = curve(lambda step: 3 * math.exp(-step / 10) + 0.8)


def codes(phase="running", **series):
    return [
        advice.code for advice in diagnose({name.replace("__", "/"): points for name, points in series.items()}, phase)
    ]


def test_nothing_is_said_of_too_few_points():
    assert codes(loss=FALLING[:5]) == [] and codes() == []


def test_a_healthy_run_needs_no_remark():
    assert codes(loss=FALLING, eval_loss=[(10, 2.0), (20, 1.5), (30, 1.495)]) == []


@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_values_that_are_no_numbers_come_first(value):
    assert codes(loss=[*FALLING, (41, value)]) == ["not_finite"]


def test_a_loss_of_zero_means_that_nothing_is_trained():
    assert codes(loss=[(1, 0.0), (2, 0.0), (3, 0.0)]) == ["zero_loss"]


def test_of_a_run_that_learns_from_rewards_the_rewards_are_read_and_not_the_loss():
    zero = [(step, 0.0) for step in range(1, 20)]
    assert codes(loss=zero, frac_reward_zero_std=[(step, 1.0) for step in range(1, 20)]) == ["rewards_alike"]
    assert codes(loss=zero, frac_reward_zero_std=[(step, 0.5) for step in range(1, 20)]) == []


def test_evaluation_that_turns_while_training_falls_is_overfitting():
    found = diagnose({"loss": FALLING, "eval_loss": [(10, 1.5), (20, 1.2), (30, 1.4), (40, 1.6)]}, "running")
    assert [(one.code, one.values["step"]) for one in found] == [("overfitting", 20)]


def test_evaluation_that_still_falls_asks_for_more():
    assert codes(loss=FALLING, eval_loss=[(10, 2.0), (20, 1.5), (30, 1.2)]) == ["still_falling"]


def test_a_loss_that_rises_or_jumps_means_too_large_steps():
    assert codes(loss=curve(lambda step: 2 + step / 5)) == ["rising"]
    draw = random.Random(1)
    assert codes(loss=curve(lambda _: draw.uniform(0.5, 5.0))) == ["jumping"]


def test_a_flat_loss_is_named():
    assert codes(loss=curve(lambda step: 2.5 + 0.001 * (step % 2))) == ["flat"]


def test_memorising_is_said_at_the_end_only():
    low = curve(lambda step: 2 * math.exp(-step / 3) + 0.001)
    assert codes(loss=low) == [] and codes("finished", loss=low) == ["memorised"]


def test_preference_runs_have_findings_of_their_own():
    falling = curve(lambda step: -step / 4)
    chance = curve(lambda step: 0.5)
    assert codes(rewards__chosen=falling) == ["chosen_reward_falls"]
    assert codes(rewards__accuracies=chance) == ["no_preference_yet"]
    assert codes(rewards__chosen=curve(lambda _: 0.1), rewards__accuracies=curve(lambda _: 0.9)) == []


def test_where_the_evaluation_loss_is_not_the_measure_it_says_nothing_of_the_run():
    turning = {"loss": FALLING, "eval_loss": curve(lambda step: 1 + abs(step - 10) / 10)}
    by_loss, by_another = (
        {advice.code for advice in diagnose(turning, "running", measure)} for measure in ("eval_loss", "eval_reward")
    )
    assert by_loss - by_another == {"overfitting"}
