"""Linear: the weighted mean of the weights, as in model soups (Wortsman et al. 2022, arXiv 2203.05482)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from engine.merging.arithmetic import normalised, weighted_sum
from engine.merging.protocol import Beside
from engine.specs import base
from engine.specs.base import setting


class LinearMerge:
    kind = "linear"
    most = 20
    needs_rows = False
    of_one_run = False
    keeps_rank = True

    class Spec(base.EntrySpec):
        """How strong the mean of the changes is."""

        kind: Literal["linear"] = "linear"
        scale: float = setting(
            1.0,
            "Scale",
            "The mean of the changes is multiplied by this; as many as there are sources adds them up.",
            gt=0.0,
            le=100.0,
        )

    def of_changes(self, spec: Spec) -> bool:
        return spec.scale != 1.0

    def shares(self, weights: Sequence[float], spec: Spec) -> list[float]:
        return [spec.scale * one for one in normalised(weights)]

    def merge(self, tensors: Sequence[Any], shares: Sequence[float], spec: Spec, beside: Beside) -> Any:
        del spec, beside
        return weighted_sum(tensors, shares)
