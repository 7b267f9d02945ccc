"""SLERP: along the arc between two tensors instead of the line, so that their length does not shrink on the way.

Shoemake 1985, each tensor being one vector: sin((1-t)a)/sin(a) · u + sin(t·a)/sin(a) · v, a the angle between them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

from engine.merging.arithmetic import normalised, weighted_sum
from engine.merging.protocol import Beside
from engine.specs import base

NEARLY_PARALLEL = 0.9995
"""Cosine from which on the arc is a line: the sine of the angle is too small to divide by."""


class SlerpMerge:
    kind = "slerp"
    most = 2
    needs_rows = False
    of_one_run = False
    keeps_rank = False

    class Spec(base.EntrySpec):
        """Nothing but the weights: they say how far along the arc."""

        kind: Literal["slerp"] = "slerp"

    def of_changes(self, spec: Spec) -> bool:
        del spec
        return False

    def shares(self, weights: Sequence[float], spec: Spec) -> list[float]:
        del spec
        return normalised(weights)

    def merge(self, tensors: Sequence[Any], shares: Sequence[float], spec: Spec, beside: Beside) -> Any:
        del spec, beside
        first, second = tensors
        lengths = float(first.norm()) * float(second.norm())
        cosine = float((first * second).sum()) / lengths if lengths else 1.0
        if abs(cosine) > NEARLY_PARALLEL:
            return weighted_sum(tensors, shares)
        angle = math.acos(cosine)
        return weighted_sum(tensors, [math.sin(share * angle) / math.sin(angle) for share in shares])
