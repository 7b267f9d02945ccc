"""LoKr: the added part is a Kronecker product of a small matrix and a low-rank one (Yeh et al. 2024)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from engine.specs import base
from engine.specs.base import setting
from engine.tuners.adapters import Targets, names, shapes, targets_setting, wrap
from engine.tuners.protocol import Given


class LokrTuner:
    kind = "lokr"
    refuses: ClassVar[Mapping[str, str]] = {"nf4": "needs_plain_layers"}
    is_adapter = True
    merges = True
    packs = True
    rate_factor = 10.0

    class Spec(base.EntrySpec):
        """Size, scale and place of the matrices."""

        kind: Literal["lokr"] = "lokr"
        rank: int = setting(
            8,
            "Rank",
            "Width of the low-rank matrix; from half a layer's side on it is whole.",
            simple=True,
            ge=1,
            le=1024,
        )
        alpha: float = setting(16.0, "Alpha", "The added part is scaled by alpha / rank.", gt=0.0, le=4096.0)
        targets: Targets = targets_setting()

    def prepare(self, model: Any, spec: Spec, given: Given) -> Any:
        from peft import LoKrConfig

        config = LoKrConfig(r=spec.rank, alpha=spec.alpha, target_modules=names(spec.targets), task_type=given.task)
        return wrap(model, config)

    def trainable(self, spec: Spec, facts: dict[str, Any]) -> int:
        return sum(_size(into, out, spec.rank) for into, out in shapes(facts, spec.targets))


def _size(into: int, out: int, rank: int) -> int:
    """The small matrix is whole; the large one has two narrow factors where they are smaller than it."""
    (out_small, out_large), (in_small, in_large) = _factors(out), _factors(into)
    whole = rank >= max(out_large, in_large) / 2
    return out_small * in_small + (out_large * in_large if whole else rank * (out_large + in_large))


def _factors(width: int) -> tuple[int, int]:
    """The two factors of a width that are nearest to each other, the smaller first."""
    small = next(one for one in range(math.isqrt(width), 0, -1) if width % one == 0)
    return small, width // small
