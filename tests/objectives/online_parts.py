"""A trainer of an objective that draws answers, in this process, without a store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from engine.data.render import Renderer
from engine.data.room import Room
from engine.models.loading import load_model, load_tokenizer
from engine.objectives import OBJECTIVES
from engine.runtime.building import Frame, Rows, build, task_types
from engine.runtime.device import Device
from engine.runtime.parts import Means
from engine.runtime.start import Start
from engine.specs.cadence import cadence
from engine.specs.job import JobSpec, parse
from engine.tuners import TUNERS
from engine.tuners.protocol import Given

QUESTIONS = [
    f"Say something about the {noun}." for noun in ("sea", "sun", "moon", "wood", "town", "rain", "wind", "snow")
]


def conversations(answer: str = "hello", count: int = 8) -> list[dict[str, Any]]:
    """Rows with one question and one answer each."""
    return [
        {"messages": [{"role": "user", "content": one}, {"role": "assistant", "content": answer}]}
        for one in QUESTIONS[:count]
    ]


def spec_of(objective: dict[str, Any], **changes: Any) -> JobSpec:
    """A run's spec: small, all weights or another tuner."""
    tuner = changes.pop("tuner", {"kind": "full"})
    model = changes.pop("model", {})
    data = {"dataset": "rows", "max_length": 96, **changes.pop("data", {})}
    training = {
        "learning_rate": 5e-3,
        "epochs": 1000.0,
        "batch_size": 8,
        "gradient_accumulation": 1,
        "max_steps": 10,
        "precision": "fp32",
        "schedule": "constant",
        "warmup_ratio": 0.0,
        **changes,
    }
    told = {"model": {"dtype": "float32", **model}, "data": data, "objective": objective, "tuner": tuner}
    return parse({**told, "training": training})


def trainer_of(
    spec: JobSpec,
    base: Path,
    folder: Path,
    rows: list[dict[str, Any]],
    *,
    held_out: list[dict[str, Any]] | None = None,
    means: Means | None = None,
    save: Any = lambda step, write: None,
) -> Any:
    """The trainer that the process would build of these canonical rows."""
    from datasets import Dataset
    from transformers import TrainerCallback

    chosen: Any = spec.objective
    tokenizer = load_tokenizer(base)
    renderer = Renderer(tokenizer)
    room = Room(spec.data.max_length)

    def made(some: list[dict[str, Any]]) -> Any:
        objective = OBJECTIVES[chosen.kind]
        each = ((row, one) for row in some for one in objective.tokens(row, renderer, chosen, room))
        return Dataset.from_list([{**one, "task_type": row.get("task_type", "")} for row, one in each])

    train, evaluation = made(rows), made(held_out) if held_out else None
    steps = cadence(spec, len(train), len(evaluation) if evaluation else 0)
    prepared = Rows(tokenizer, renderer, base, train, evaluation, [], [], {}, steps, (), task_types(train))
    tuner = TUNERS[spec.tuner.kind]
    begin = Start(base, None, spec.model.quantization, "float32", tuner.is_adapter, "language")
    torch.manual_seed(spec.seed)
    loaded = load_model(base, quantization=spec.model.quantization, dtype="float32")
    given = Given("CAUSAL_LM", steps.total, train, tokenizer)
    model = tuner.prepare(loaded, spec.tuner, given)
    frame = Frame(spec, Device("cpu", False), begin, folder, means or Means())
    return build(frame, model=model, rows=prepared, save=save, watch=TrainerCallback(), measure_start=False)
