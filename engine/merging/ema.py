"""EMA: the checkpoints of one run averaged, later ones more; m = decay · m + (1 - decay) · W, step after step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from engine.merging.arithmetic import weighted_sum
from engine.merging.protocol import Beside
from engine.specs import base
from engine.specs.base import setting


class EmaMerge:
    kind = "ema"
    most = 20
    needs_rows = False
    of_one_run = True
    keeps_rank = True

    class Spec(base.EntrySpec):
        """How long earlier checkpoints are remembered."""

        kind: Literal["ema"] = "ema"
        decay: float = setting(
            0.5, "Decay", "What is left of the average so far when a checkpoint is added to it.", ge=0.0, lt=1.0
        )

    def of_changes(self, spec: Spec) -> bool:
        del spec
        return False

    def shares(self, weights: Sequence[float], spec: Spec) -> list[float]:
        """By the place in the run alone: the first begins the average."""
        later = [(1 - spec.decay) * spec.decay ** (len(weights) - place - 1) for place in range(1, len(weights))]
        return [spec.decay ** (len(weights) - 1), *later]

    def merge(self, tensors: Sequence[Any], shares: Sequence[float], spec: Spec, beside: Beside) -> Any:
        del spec, beside
        return weighted_sum(tensors, shares)
