"""TIES: of each change only the largest values, and of those only the ones whose sign has the majority.

Yadav et al. 2023 (arXiv 2306.01708). Thinned out tensor by tensor, not over the whole model at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from engine.merging.arithmetic import by_majority, largest, normalised
from engine.merging.protocol import Beside
from engine.specs import base
from engine.specs.base import setting


class TiesMerge:
    kind = "ties"
    most = 20
    needs_rows = False
    of_one_run = False
    keeps_rank = False

    class Spec(base.EntrySpec):
        """How much of each change is kept, and how strong the result is."""

        kind: Literal["ties"] = "ties"
        density: float = setting(
            0.2, "Density", "Share of each change that is kept: its largest values.", gt=0.0, le=1.0
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
        return by_majority([largest(one, spec.density) for one in tensors], shares) * spec.scale
