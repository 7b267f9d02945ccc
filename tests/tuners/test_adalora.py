"""AdaLoRA deals its rank out at every step, towards orthogonal directions, and ends with the ranks that it promised."""

from __future__ import annotations

import torch

from engine.tuners.adalora import AdaloraTuner
from tests.tuners.making import make, spec_of

TUNER = {"kind": "adalora", "initial_rank": 6, "rank": 2, "warm_share": 0.1, "final_share": 0.3}
LAYERS = 14


def ranks(model):
    return [int((weight != 0).sum()) for name, weight in model.named_parameters() if "lora_E" in name]


def test_the_last_cut_leaves_the_average_rank(tiny_model, tmp_path):
    trainer = make(tiny_model, spec_of(TUNER, learning_rate=1e-2), tmp_path, total=10)
    seen = []
    real = AdaloraTuner.after_step

    def look(self, model, step):
        real(self, model, step)
        seen.append(sum(ranks(model)))

    trainer.args.max_steps = 10
    AdaloraTuner.after_step = look
    try:
        trainer.train()
    finally:
        AdaloraTuner.after_step = real
    assert seen[0] == 6 * LAYERS, "nothing is cut before the share"
    assert seen[6] <= 2 * LAYERS < seen[2], "at the seventh of ten steps the last cut is made"
    assert max(seen[6:]) <= 2 * LAYERS, "and it stays"


def test_the_penalty_is_the_mean_distance_from_orthogonal_directions(tiny_model, tmp_path):
    trainer = make(tiny_model, spec_of({**TUNER, "orthogonality": 0.25}), tmp_path)
    model = trainer.model
    expected = []
    for name, weight in model.named_parameters():
        if "lora_A" in name or "lora_B" in name:
            square = weight @ weight.T if "lora_A" in name else weight.T @ weight
            expected.append((square - torch.eye(6)).pow(2).sum().sqrt())
    assert torch.isclose(AdaloraTuner().penalty(model), 0.25 * sum(expected) / len(expected))


def test_the_penalty_reaches_the_gradients(tiny_model, tmp_path):
    grads = {}
    for strength in (0.0, 5.0):
        trainer = make(tiny_model, spec_of({**TUNER, "orthogonality": strength}, max_steps=1), tmp_path / str(strength))
        grads[strength] = norm_of_first_gradient(trainer)
    assert grads[5.0] > 2 * grads[0.0]


def norm_of_first_gradient(trainer):
    trainer.train()
    return next(one["grad_norm"] for one in trainer.state.log_history if "grad_norm" in one)
