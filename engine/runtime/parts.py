"""TrainerParts: what an objective gets to build its trainer from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.runtime.device import Device
from engine.specs.cadence import Cadence
from engine.specs.job import LOSS, JobSpec


def _nothing() -> None:
    """Tell nobody."""


Sample = Mapping[str, Any]
"""The fields of a `NewSample` of `storage/samples.py`."""


def _dropped(step: int, samples: Sequence[Sample]) -> None:
    """Keep no samples."""
    del step, samples


def _no_model(text: str) -> Any:
    raise LookupError(text)


def _nobody(url: str, model: str, at_once: int) -> Ask:
    raise LookupError(f"{model} at {url}, {at_once} at once")


Ask = Callable[[Sequence[Sequence[Mapping[str, str]]]], list[str | None]]
"""Conversations → the replies to them, None where there is none."""


@dataclass(frozen=True, slots=True)
class Means:
    """What the process around a trainer does for its objective; by default nothing: a trial tells nobody."""

    beat: Callable[[], None] = _nothing
    """Says that the run moves, where a step takes long."""
    keep: Callable[[int, Sequence[Sample]], None] = _dropped
    """Keeps the samples of a step for people to read."""
    other: Callable[[str], Other] = _no_model
    """Loads another model of the studio: `base:MODEL`, JOB or JOB@STEP."""
    scorer: Callable[[str], Any] = _no_model
    """Loads a reward model by its run: a `Scorer` of `engine/models/scoring.py`."""
    judge: Callable[[str, str, int], Ask] = _nobody
    """Who answers at an address: its URL, the model's name there, and how many requests are under way at once."""


@dataclass(frozen=True, slots=True)
class Other:
    """A second model, frozen, with its own tokenizer."""

    model: Any
    tokenizer: Any


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
    goes_on: bool
    """Whether the model's adapter is an earlier run's, trained further."""
    cache: Path
    """The home's folder for figures of the start, which are computed once."""
    renderer: Any = None
    """Writes conversations for the model as they were written in the rows."""
    means: Means = field(default_factory=Means)
    task_types: tuple[str, ...] = ()
    """Those whose losses are told apart."""


def arguments(spec: JobSpec, device: Device, folder: Path, steps: Cadence) -> dict[str, Any]:
    """The trainer's arguments that are the same for every objective."""
    training = spec.training
    measure = spec.measure
    bf16 = device.bf16 if training.precision == "auto" else training.precision == "bf16"
    return {
        "output_dir": str(folder),
        "num_train_epochs": training.epochs,
        "max_steps": steps.total if training.max_steps else -1,  # where the epochs end before, the library would go on
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
        "metric_for_best_model": measure if steps.eval_every else None,
        "greater_is_better": measure != LOSS if steps.eval_every else None,
        "seed": spec.seed,
        "data_seed": spec.seed,
        "use_cpu": device.kind == "cpu",
        "disable_tqdm": True,
        "report_to": "none",
        "dataloader_num_workers": 0,
        "dataloader_pin_memory": device.kind == "cuda",
    }
