"""TrainerParts: what an objective gets to build its trainer from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.objectives import OBJECTIVES
from engine.runtime.device import Device
from engine.specs.cadence import Cadence
from engine.specs.job import JobSpec


@dataclass(frozen=True, slots=True)
class TrainerParts:
    """Everything the library's trainer needs, decided. `staged` wraps a trainer class so that its saves are ours."""

    spec: JobSpec
    model: Any
    arguments: dict[str, Any]
    common: dict[str, Any]
    staged: Callable[[type], type]
    reference: Callable[[], Any]
    """Loads a frozen copy of the start; only for objectives that need one."""
    task_types: tuple[str, ...] = ()
    """Those whose losses are told apart."""


def arguments(spec: JobSpec, device: Device, folder: Path, steps: Cadence) -> dict[str, Any]:
    """The trainer's arguments that are the same for every objective."""
    training = spec.training
    bf16 = device.bf16 if training.precision == "auto" else training.precision == "bf16"
    return {
        "output_dir": str(folder),
        "num_train_epochs": training.epochs,
        "max_steps": training.max_steps or -1,
        "per_device_train_batch_size": training.batch_size,
        "per_device_eval_batch_size": training.batch_size,
        "gradient_accumulation_steps": training.gradient_accumulation,
        "learning_rate": training.learning_rate,
        "lr_scheduler_type": "constant",  # the course of the rate is drawn by ours: see `staging.py`
        "weight_decay": training.weight_decay,
        "max_grad_norm": training.max_grad_norm,
        "bf16": bf16,
        "fp16": False,
        "gradient_checkpointing": training.gradient_checkpointing,
        "logging_steps": training.log_every_steps,
        "logging_nan_inf_filter": False,
        "eval_strategy": "steps" if steps.eval_every else "no",
        "eval_steps": steps.eval_every,
        "save_strategy": "steps",
        "save_steps": steps.save_every,
        "metric_for_best_model": measure_of(spec) if steps.eval_every else None,
        "greater_is_better": training.best_by == "metric" if steps.eval_every else None,
        "seed": spec.seed,
        "data_seed": spec.seed,
        "use_cpu": device.kind == "cpu",
        "disable_tqdm": True,
        "report_to": "none",
        "dataloader_num_workers": 0,
        "dataloader_pin_memory": device.kind == "cuda",
    }


def measure_of(spec: JobSpec) -> str:
    """The name, among the results of an evaluation, of what the best checkpoint is chosen by."""
    metric = OBJECTIVES[spec.objective.kind].metric
    return f"eval_{metric}" if spec.training.best_by == "metric" else "eval_loss"
