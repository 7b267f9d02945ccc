"""A run in phases: each with a tuner of its own, the next on the last checkpoint of the one before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engine.runtime import checkpoints
from engine.runtime.child import Refused
from engine.runtime.start import Start
from engine.specs.job import JobSpec
from engine.tuners import TUNERS
from engine.tuners.protocol import Phased


@dataclass(frozen=True, slots=True)
class Stretch:
    """The steps of a run between two of its own steps, and the spec that holds for them."""

    spec: JobSpec
    began_at: int
    until: int

    def start(self, run: Start, base: Path | None) -> Start:
        """What it starts from: the run's own start, or the weights that the stretch before left in `base`."""
        is_adapter = TUNERS[self.spec.tuner.kind].is_adapter
        if base is None:
            return replace(run, is_adapter=is_adapter)
        return Start(base, None, "none", run.dtype, is_adapter, run.head)


def stretches(spec: JobSpec, total: int) -> Sequence[Stretch]:
    """The stretches of a run in their order; a single one for most tuners."""
    tuner = TUNERS[spec.tuner.kind]
    if not isinstance(tuner, Phased):
        return (Stretch(spec, 0, total),)
    found, began = [], 0
    for phase in tuner.phases(spec.tuner, total):
        kind: Any = TUNERS[phase.tuner["kind"]].Spec
        changes: dict[str, Any] = {"learning_rate": spec.training.learning_rate * phase.rate_factor}
        if phase.warmup_ratio is not None:
            changes |= {"warmup_ratio": phase.warmup_ratio, "warmup_steps": None}
        training = spec.training.model_copy(update=changes)
        own = spec.model_copy(update={"tuner": kind.model_validate(dict(phase.tuner)), "training": training})
        found.append(Stretch(own, began, phase.until))
        began = phase.until
    return tuple(one for one in found if one.began_at < one.until)


def base_of(stretch: Stretch, saved: Mapping[int, Path]) -> Path | None:
    """The checkpoint that a stretch stands on, checked; None for the first. `saved` are the run's, by step.

    Raises:
        Refused: it is gone or broken.
    """
    if stretch.began_at == 0:
        return None
    refusal = Refused("checkpoints_broken", {"steps": str(stretch.began_at)}, {})
    base = saved.get(stretch.began_at)
    if base is None:
        raise refusal
    try:
        checkpoints.verify(base)
    except checkpoints.BrokenCheckpoint as error:
        raise refusal from error
    return base
