"""How many steps a run takes, and how many lie between its evaluations and saves: arithmetic on the spec alone."""

from __future__ import annotations

from dataclasses import dataclass

from engine.specs.job import JobSpec


@dataclass(frozen=True, slots=True)
class Cadence:
    """Optimiser steps of the whole run, and how many lie between evaluations and between saves."""

    total: int
    eval_every: int | None
    save_every: int


def cadence(spec: JobSpec, num_train: int, num_eval: int) -> Cadence:
    """Count the steps: rows per device batch, accumulated, over the epochs, at most `max_steps`."""
    batches = -(-num_train // spec.training.batch_size)
    per_epoch = max(1, -(-batches // spec.training.gradient_accumulation))
    total = max(1, -(-int(per_epoch * spec.training.epochs * 1000) // 1000))
    if spec.training.max_steps is not None:
        total = min(total, spec.training.max_steps)
    tenth = max(1, total // 10)
    eval_every = (spec.training.eval_every_steps or tenth) if num_eval else None
    save_every = spec.training.save_every_steps or eval_every or tenth
    return Cadence(total, eval_every, save_every)
