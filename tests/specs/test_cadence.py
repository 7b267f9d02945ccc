"""Steps, and the pauses between evaluations and saves."""

from __future__ import annotations

from typing import Any

import pytest

from engine.specs.cadence import Cadence, cadence
from engine.specs.job import parse


def counted(num_train: int, num_eval: int, **training: Any) -> Cadence:
    usual = {"epochs": 1.0, "batch_size": 4, "gradient_accumulation": 2, "learning_rate": 1e-4}
    spec = {
        "model": {"id": "m"},
        "data": {"dataset": "d"},
        "objective": {"kind": "sft"},
        "tuner": {"kind": "lora"},
        "training": usual | training,
    }
    return cadence(parse(spec), num_train, num_eval)


@pytest.mark.parametrize(
    ("num_train", "num_eval", "epochs", "expected"),
    [
        (216, 24, 2.0, Cadence(54, 8, 8)),  # seven evaluations are affordable: six, since pauses are whole steps
        (2160, 24, 1.0, Cadence(270, 27, 27)),  # ten are enough
        (144, 16, 1.0, Cadence(18, 6, 6)),  # ten would take as long as the training itself
        (40, 400, 1.0, Cadence(5, 2, 2)),  # never fewer than three
        (8, 1, 1.0, Cadence(1, 1, 1)),
        (144, 0, 1.0, Cadence(18, None, 2)),
    ],
)
def test_evaluations_are_few_where_they_would_take_long(num_train, num_eval, epochs, expected):
    assert counted(num_train, num_eval, epochs=epochs) == expected


def test_what_the_spec_says_holds():
    assert counted(144, 16, eval_every_steps=1, save_every_steps=7, max_steps=10) == Cadence(10, 1, 7)
    assert counted(144, 16, eval_every_steps=3) == Cadence(18, 3, 3)
