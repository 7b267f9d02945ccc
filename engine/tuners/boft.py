"""BOFT: rotations of the frozen layers' inputs in small blocks, and a factor per output (Liu et al. 2024).

With one butterfly factor: more need the library's own CUDA extension, compiled on the spot.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from engine.specs import base
from engine.specs.base import setting
from engine.tuners.adapters import Targets, names, shapes, targets_setting, wrap
from engine.tuners.protocol import Given


class BoftTuner:
    kind = "boft"
    refuses: ClassVar[Mapping[str, str]] = {}
    is_adapter = True
    merges = True
    packs = True
    rate_factor = 10.0

    class Spec(base.EntrySpec):
        """Size of the blocks and place of the rotations."""

        kind: Literal["boft"] = "boft"
        block_size: int = setting(
            4,
            "Block size",
            "Inputs that are rotated among each other; it must divide the width of every tuned layer.",
            simple=True,
            ge=2,
            le=256,
        )
        targets: Targets = targets_setting("attention")

    def prepare(self, model: Any, spec: Spec, given: Given) -> Any:
        from peft import BOFTConfig

        config = BOFTConfig(boft_block_size=spec.block_size, target_modules=names(spec.targets), task_type=given.task)
        return wrap(model, config)

    def trainable(self, spec: Spec, facts: dict[str, Any]) -> int:
        return sum(into * spec.block_size + out for into, out in shapes(facts, spec.targets))
