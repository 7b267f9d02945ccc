"""A trainer of the tiny model with any tuner, in process: a few rows, a few steps, its checkpoints in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from engine.data.render import Renderer
from engine.models.loading import load_tokenizer
from engine.runtime import start
from engine.runtime.building import Frame, Rows, build
from engine.runtime.device import Device
from engine.runtime.start import Start
from engine.specs.cadence import Cadence
from engine.specs.job import parse

LENGTHS = (12, 20, 7, 16, 9, 14, 11, 18, 13)
CPU = Device("cpu", False)


def spec_of(tuner: dict[str, Any], quantization: str = "none", **training: Any) -> Any:
    return parse(
        {
            "model": {"dtype": "float32", "quantization": quantization},
            "data": {"dataset": "rows"},
            "objective": {"kind": "sft"},
            "tuner": tuner,
            "training": {
                "learning_rate": 1e-2,
                "batch_size": 2,
                "gradient_accumulation": 1,
                "max_steps": 4,
                "precision": "fp32",
                "schedule": "constant",
                "warmup_ratio": 0.0,
                **training,
            },
        }
    )


def rows_of(model: Path, total: int = 4) -> Rows:
    from datasets import Dataset

    tokenizer = load_tokenizer(model)
    draw = torch.Generator().manual_seed(1)
    texts = [torch.randint(20, 400, (length,), generator=draw).tolist() for length in LENGTHS]
    data = Dataset.from_list([{"input_ids": ids, "labels": ids, "task_type": ""} for ids in texts])
    return Rows(tokenizer, Renderer(tokenizer), model, data, None, [], [], {}, Cadence(total, None, 2))


def make(model: Path, spec: Any, folder: Path, *, total: int = 4) -> Any:
    """The trainer; each of its checkpoints is `folder/checkpoint-STEP`."""
    from transformers import TrainerCallback

    from engine.tuners import TUNERS

    def save(step: int, write: Any) -> None:
        (folder / f"checkpoint-{step}").mkdir(parents=True)
        write(folder / f"checkpoint-{step}")

    begin = Start(model, None, spec.model.quantization, "float32", TUNERS[spec.tuner.kind].is_adapter, "language")
    rows = rows_of(model, total)
    loaded = start.load(begin, spec, CPU, rows)
    frame = Frame(spec, CPU, begin, folder)
    return build(frame, model=loaded, rows=rows, save=save, watch=TrainerCallback(), measure_start=False)
