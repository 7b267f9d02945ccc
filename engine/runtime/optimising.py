"""From the settings of a run to its optimiser: the groups of weights, the course of the rate, and the average."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from engine.optimizers import OPTIMIZERS, Optimizer
from engine.optimizers.groups import Rates, groups, is_layer_matrix
from engine.optimizers.schedules import Course, factor
from engine.runtime.averaging import Average, Ema, OfOptimizer
from engine.specs.job import JobSpec, TrainingPart


@dataclass(frozen=True, slots=True)
class Optimising:
    """What a trainer makes its optimiser and its schedule from."""

    entry: Optimizer
    rates: Rates
    training: TrainingPart

    def optimizer_of(self, trainer: Any) -> tuple[type, dict[str, Any]]:
        """The class and its arguments, the groups of weights among them: what the library makes it from."""
        kind, arguments = self.entry.make(self.rates.rate)
        decayed = set(trainer.get_decay_parameter_names(trainer.model))
        return kind, {**arguments, "params": groups(trainer.model, decayed, self.rates)}

    def kept_bytes(self, weights: Mapping[str, Any]) -> int:
        """What it keeps for weights by name from its first step on."""
        usual = OPTIMIZERS["adamw"].state_bytes if self.entry.by_matrix else self.entry.state_bytes
        each = {name: self.entry.state_bytes if is_layer_matrix(name, one) else usual for name, one in weights.items()}
        return int(sum(each[name] * one.numel() for name, one in weights.items()))

    def share(self, total_steps: int) -> Callable[[int], float]:
        """The share of the learning rate at each step of a run, counted from 0."""
        training = self.training
        course = Course(
            total_steps,
            min(total_steps, warm_steps(training, total_steps)),
            final=training.final_rate,
            decay_share=training.decay_share,
            power=training.power,
        )
        return factor(training.schedule, course)

    def average_of(self, trainer: Any) -> Average | None:
        """What is published in the place of the weights themselves, if anything is."""
        if self.entry.averages:
            return OfOptimizer(trainer.model, trainer.optimizer)
        if self.training.ema_decay is not None:
            return Ema(trainer.model, self.training.ema_decay)
        return None


def optimising(spec: JobSpec) -> Optimising:
    """Read it from the settings."""
    training, tuner = spec.training, spec.tuner
    entry = OPTIMIZERS[training.optimizer]
    rates = Rates(
        training.learning_rate,
        training.weight_decay,
        layer_decay=training.layer_decay,
        lora_plus=getattr(tuner, "lora_plus_ratio", 1.0),
        by_matrix=entry.by_matrix,
    )
    return Optimising(entry, rates, training)


def warm_steps(training: TrainingPart, total_steps: int) -> int:
    """Steps of the warm-up; a number that was given wins over the share."""
    if training.warmup_steps is not None:
        return training.warmup_steps
    return math.ceil(training.warmup_ratio * total_steps)
