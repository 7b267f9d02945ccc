"""Magnitude pruning: of each change only the largest values, then their weighted mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from engine.merging.arithmetic import largest, normalised, weighted_sum
from engine.merging.protocol import Beside
from engine.specs import base
from engine.specs.base import setting


class MagnitudeMerge:
    kind = "magnitude"
    most = 20
    needs_rows = False
    of_one_run = False
    keeps_rank = False

    class Spec(base.EntrySpec):
        """How much of each change is kept, and how strong the result is."""

        kind: Literal["magnitude"] = "magnitude"
        density: float = setting(
            0.5, "Density", "Share of each change that is kept: its largest values.", gt=0.0, le=1.0
        )
        scale: float = setting(1.0, "Scale", "The merged change is multiplied by this.", gt=0.0, le=100.0)

    def of_changes(self, spec: Spec) -> bool:
        del spec
        return True

    def shares(self, weights: Sequence[float], spec: Spec) -> list[float]:
        del spec
        return normalised(weights)

    def merge(self, tensors: Sequence[Any], shares: Sequence[float], spec: Spec, beside: Beside) -> Any:
        del beside
        return weighted_sum([largest(one, spec.density) for one in tensors], shares) * spec.scale
