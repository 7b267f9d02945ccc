"""Fisher: each value counts as much as the source's answers depend on it.

Matena and Raffel 2021 (arXiv 2111.09832), with the diagonal of the empirical Fisher matrix: the mean over rows of the
squared gradient of the log-likelihood of a row's own answers. W = Σ w·F·W_i / Σ w·F.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from engine.merging.arithmetic import normalised, weighted_sum
from engine.merging.protocol import Beside
from engine.specs import base
from engine.specs.base import setting


class FisherMerge:
    kind = "fisher"
    most = 20
    needs_rows = True
    of_one_run = False
    keeps_rank = False

    class Spec(base.EntrySpec):
        """What the importance of the values is measured on."""

        kind: Literal["fisher"] = "fisher"
        rows: int = setting(
            64, "Rows", "Rows on which it is measured how much each value matters.", unit="rows", ge=1, le=10_000
        )
        max_length: int = setting(
            512, "Longest row", "Rows are cut to this length for it.", unit="tokens", ge=16, le=131072
        )
        floor: float = setting(
            1e-8,
            "Floor",
            "Least importance of a value; where no source depends on one, it is the plain weighted mean.",
            gt=0.0,
            le=1.0,
        )

    def of_changes(self, spec: Spec) -> bool:
        del spec
        return False

    def shares(self, weights: Sequence[float], spec: Spec) -> list[float]:
        del spec
        return normalised(weights)

    def merge(self, tensors: Sequence[Any], shares: Sequence[float], spec: Spec, beside: Beside) -> Any:
        raised = [one + spec.floor for one in beside.importance]
        weighed = [tensor * matters for tensor, matters in zip(tensors, raised, strict=True)]
        return weighted_sum(weighed, shares) / weighted_sum(raised, shares)
