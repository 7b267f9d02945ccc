"""OFT: the inputs of the frozen layers are rotated, block by block (Qiu et al. 2023)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from engine.specs import base
from engine.specs.base import setting
from engine.tuners.adapters import Targets, names, shapes, targets_setting, wrap
from engine.tuners.protocol import Given


class OftTuner:
    kind = "oft"
    refuses: ClassVar[Mapping[str, str]] = {}
    is_adapter = True
    merges = True
    packs = True
    rate_factor = 10.0

    class Spec(base.EntrySpec):
        """Size of the blocks and place of the rotations."""

        kind: Literal["oft"] = "oft"
        block_size: int = setting(
            32,
            "Block size",
            "Inputs that are rotated among each other; where it does not divide a width, the nearest that does.",
            simple=True,
            ge=2,
            le=1024,
        )
        targets: Targets = targets_setting()

    def prepare(self, model: Any, spec: Spec, given: Given) -> Any:
        import warnings

        from peft import OFTConfig

        with warnings.catch_warnings():  # of the nearest block size, which the setting's help tells
            warnings.filterwarnings("ignore", message="Invalid `oft_block_size`")
            config = OFTConfig(
                r=0, oft_block_size=spec.block_size, target_modules=names(spec.targets), task_type=given.task
            )
            return wrap(model, config)

    def trainable(self, spec: Spec, facts: dict[str, Any]) -> int:
        """Half of a skew-symmetric matrix for each block."""
        blocks = [(into, _dividing(into, spec.block_size)) for into, _ in shapes(facts, spec.targets)]
        return sum(into // block * (block * (block - 1) // 2) for into, block in blocks)


def _dividing(width: int, wanted: int) -> int:
    """The block size nearest to the wanted one that divides the width; the smaller of two."""
    if wanted >= width:
        return width
    return min((size for size in range(1, width + 1) if width % size == 0), key=lambda size: (abs(size - wanted), size))
