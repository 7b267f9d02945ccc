"""LoHa: the added part is the product, element by element, of two low-rank matrices (Hyeon-Woo et al. 2022)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from engine.specs import base
from engine.specs.base import setting
from engine.tuners.adapters import Targets, names, shapes, targets_setting, wrap
from engine.tuners.protocol import Given


class LohaTuner:
    kind = "loha"
    refuses: ClassVar[Mapping[str, str]] = {"nf4": "needs_plain_layers"}
    is_adapter = True
    merges = True
    packs = True
    rate_factor = 10.0

    class Spec(base.EntrySpec):
        """Size, scale and place of the matrices."""

        kind: Literal["loha"] = "loha"
        rank: int = setting(
            8, "Rank", "Width of each pair of matrices; their product reaches its square.", simple=True, ge=1, le=1024
        )
        alpha: float = setting(16.0, "Alpha", "The added part is scaled by alpha / rank.", gt=0.0, le=4096.0)
        targets: Targets = targets_setting()

    def prepare(self, model: Any, spec: Spec, given: Given) -> Any:
        from peft import LoHaConfig

        config = LoHaConfig(r=spec.rank, alpha=spec.alpha, target_modules=names(spec.targets), task_type=given.task)
        return wrap(model, config)

    def trainable(self, spec: Spec, facts: dict[str, Any]) -> int:
        return sum(2 * spec.rank * (into + out) for into, out in shapes(facts, spec.targets))
