"""DARE: a random part of each change is dropped and the rest enlarged; then a sum, or TIES' majority of signs.

Yu et al. 2023 (arXiv 2311.03099).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from engine.merging.arithmetic import by_majority, drawn, normalised, weighted_sum
from engine.merging.protocol import Beside
from engine.specs import base
from engine.specs.base import setting


class DareMerge:
    kind = "dare"
    most = 20
    needs_rows = False
    of_one_run = False
    keeps_rank = False

    class Spec(base.EntrySpec):
        """How much of each change is kept, and how the rest is put together."""

        kind: Literal["dare"] = "dare"
        density: float = setting(
            0.5, "Density", "Probability with which each value of a change is kept.", gt=0.0, le=1.0
        )
        then: Literal["linear", "ties"] = setting(
            "linear",
            "Then",
            "linear: the weighted mean of what is left; ties: of those values whose sign has the majority.",
        )
        scale: float = setting(1.0, "Scale", "The merged change is multiplied by this.", gt=0.0, le=100.0)

    def of_changes(self, spec: Spec) -> bool:
        del spec
        return True

    def shares(self, weights: Sequence[float], spec: Spec) -> list[float]:
        del spec
        return normalised(weights)

    def merge(self, tensors: Sequence[Any], shares: Sequence[float], spec: Spec, beside: Beside) -> Any:
        left = [drawn(one, spec.density, beside.seed + place) for place, one in enumerate(tensors)]
        together = {"linear": weighted_sum, "ties": by_majority}[spec.then]
        return together(left, shares) * spec.scale
