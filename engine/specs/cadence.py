"""How many steps a run takes, and how many lie between its evaluations and saves: arithmetic on the spec alone."""

from __future__ import annotations

import math
from dataclasses import dataclass

from engine.specs.job import JobSpec

FEWEST, MOST = 3, 10
"""Evaluations of a run whose spec does not say how many steps lie between them."""
EVALUATED_ROWS = 0.4
"""At most so many rows are evaluated for each row that is trained on. A row without its gradients costs a third of one
with them, a pair half: evaluations take at most a sixth of the run, unless the fewest take longer."""


@dataclass(frozen=True, slots=True)
class Cadence:
    """Optimiser steps of the whole run, and how many lie between evaluations and between saves."""

    total: int
    eval_every: int | None
    save_every: int


def cadence(spec: JobSpec, num_train: int, num_eval: int) -> Cadence:
    """Count the steps: rows per device batch, accumulated, over the epochs, at most `max_steps`."""
    per_epoch = steps_per_epoch(spec, num_train)
    total = max(1, -(-int(per_epoch * spec.training.epochs * 1000) // 1000))
    if spec.training.max_steps is not None:
        total = min(total, spec.training.max_steps)
    rows = total * spec.effective_batch
    affordable = int(EVALUATED_ROWS * rows / num_eval) if num_eval else MOST
    pause = math.ceil(total / min(MOST, max(FEWEST, affordable)))
    eval_every = (spec.training.eval_every_steps or pause) if num_eval else None
    save_every = spec.training.save_every_steps or eval_every or pause
    return Cadence(total, eval_every, save_every)


def steps_per_epoch(spec: JobSpec, num_train: int) -> int:
    """Optimiser steps of one pass over the rows, at least one."""
    needs = spec.objective.needs()
    if needs.samples:
        return max(1, num_train * needs.samples // spec.effective_batch) * needs.updates
    batches = -(-num_train // spec.training.batch_size)
    return max(1, -(-batches // spec.training.gradient_accumulation))
