"""TrainerParts: what an objective gets to build its trainer from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.runtime.device import Device
from engine.specs.cadence import Cadence
from engine.specs.job import JobSpec

_OPTIMIZERS = {
    "adamw": "adamw_torch_fused",
    "adamw_8bit": "adamw_bnb_8bit",
    "paged_adamw_8bit": "paged_adamw_8bit",
    "sgd": "sgd",
}


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
        "max_steps": steps.total if training.max_steps else -1,  # where the epochs end before, the library would go on
        "per_device_train_batch_size": training.batch_size,
        "per_device_eval_batch_size": training.batch_size,
        "gradient_accumulation_steps": training.gradient_accumulation,
        "learning_rate": training.learning_rate,
        "lr_scheduler_type": training.schedule,
        "warmup_steps": training.warmup_ratio,
        "weight_decay": training.weight_decay,
        "max_grad_norm": training.max_grad_norm,
        "optim": _OPTIMIZERS[training.optimizer],
        "bf16": bf16,
        "fp16": False,
        "gradient_checkpointing": training.gradient_checkpointing,
        "logging_steps": training.log_every_steps,
        "logging_nan_inf_filter": False,
        "eval_strategy": "steps" if steps.eval_every else "no",
        "eval_steps": steps.eval_every,
        "save_strategy": "steps",
        "save_steps": steps.save_every,
        "metric_for_best_model": "eval_loss" if steps.eval_every else None,
        "greater_is_better": False if steps.eval_every else None,
        "seed": spec.seed,
        "data_seed": spec.seed,
        "use_cpu": device.kind == "cpu",
        "disable_tqdm": True,
        "report_to": "none",
        "dataloader_num_workers": 0,
        "dataloader_pin_memory": device.kind == "cuda",
    }
