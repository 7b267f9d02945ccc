"""A trainer on a few rows, built directly: what a run does between its start and its end, in about a second."""

from __future__ import annotations

import torch
from datasets import Dataset
from transformers import TrainerCallback

from engine.data.render import Renderer
from engine.models.loading import load_model, load_tokenizer
from engine.runtime.beginning import Beginning
from engine.runtime.building import Frame, Rows, build
from engine.runtime.device import Device
from engine.runtime.start import Start
from engine.specs.cadence import Cadence
from engine.specs.job import parse
from engine.tuners import TUNERS
from engine.tuners.protocol import Given

LENGTHS = (9, 14, 7, 12, 8, 11)


class Quiet:
    """A watch without a store."""

    tokens = 0.0


def spec_of(*, tuner=None, steps=4, **training):
    return parse(
        {
            "model": {"dtype": "float32"},
            "data": {"dataset": "rows"},
            "objective": {"kind": "sft"},
            "tuner": {"kind": "full"} if tuner is None else tuner,
            "training": {
                "learning_rate": 1e-3,
                "batch_size": 2,
                "gradient_accumulation": 1,
                "max_steps": steps,
                "epochs": 100,
                "precision": "fp32",
                "warmup_ratio": 0.0,
                **training,
            },
        }
    )


def make_trainer(model_folder, folder, spec, *, evaluation=False, resume=None, save_every=2):
    """A trainer as a run has it, with saves after every second step; `resume` is the checkpoint to go on from."""
    torch.manual_seed(3)
    steps = spec.training.max_steps
    tuner = TUNERS[spec.tuner.kind]
    model = tuner.prepare(load_model(model_folder, dtype="float32"), spec.tuner, Given("CAUSAL_LM", steps, None, None))
    tokenizer = load_tokenizer(model_folder)
    columns = [{"input_ids": list(range(10, 10 + n)), "labels": list(range(10, 10 + n))} for n in LENGTHS]
    data, held = Dataset.from_list(columns), Dataset.from_list(columns[:2]) if evaluation else None
    cadence = Cadence(steps, 2 if evaluation else None, save_every)
    rows = Rows(tokenizer, Renderer(tokenizer), model_folder, data, held, [], [], {}, cadence)

    def save(step, write):
        (folder / f"checkpoint-{step}").mkdir(parents=True)
        write(folder / f"checkpoint-{step}")

    frame = Frame(
        spec, Device("cpu", False), Start(model_folder, None, "none", "float32", tuner.is_adapter, "language"), folder
    )
    trainer = build(frame, model=model, rows=rows, save=save, watch=TrainerCallback(), measure_start=False)
    trainer.add_callback(Beginning(trainer, Quiet(), resume, lambda _: None))
    return trainer


def weights(model):
    return {name: one.detach().clone() for name, one in model.named_parameters() if one.requires_grad}


def losses(trainer):
    return [(one["step"], one["loss"]) for one in trainer.state.log_history if "loss" in one]
