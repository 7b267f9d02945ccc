"""Full fine-tuning for the first steps, LoRA for the rest: steadier than LoRA alone, cheaper than full."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from engine.specs import base
from engine.specs.base import setting
from engine.tuners.adapters import Targets, targets_setting
from engine.tuners.protocol import Given, Phase


class FullThenLoraTuner:
    kind = "full_then_lora"
    refuses: ClassVar[Mapping[str, str]] = {"int8": "moves_base", "nf4": "moves_base"}
    is_adapter = False
    """All weights move first; the checkpoints of the second phase hold adapters on the first one's result."""
    merges = True
    packs = True
    rate_factor = 1.0
    learns_new_tokens: ClassVar[Literal[True]] = True

    class Spec(base.EntrySpec):
        """When LoRA begins, and its size and rate."""

        kind: Literal["full_then_lora"] = "full_then_lora"
        full_share: float = setting(
            0.2,
            "Full share",
            "Share of the steps in which all weights move, along the start of the run's schedule; 0.1 to 0.3 is usual.",
            simple=True,
            gt=0.0,
            lt=1.0,
        )
        rank: int = setting(16, "Rank", "Width of the matrices of the second phase.", simple=True, ge=1, le=1024)
        alpha: float = setting(32.0, "Alpha", "The added part is scaled by alpha / rank.", gt=0.0, le=4096.0)
        dropout: float = setting(
            0.0, "Dropout", "Share of inputs to the added matrices that is dropped at random.", ge=0.0, le=0.9
        )
        targets: Targets = targets_setting()
        rate_factor: float = setting(
            10.0,
            "LoRA rate",
            "Learning rate of the LoRA phase as a multiple of the run's. Its schedule is whole and its own: it warms "
            "up anew and falls to the end of the run.",
            gt=0.0,
            le=1000.0,
        )
        warmup_ratio: float = setting(
            0.03, "LoRA warm-up", "Share of the LoRA phase in which its rate rises from zero.", ge=0.0, le=1.0
        )

    def phases(self, spec: Spec, total_steps: int) -> Sequence[Phase]:
        """At least one step each, where there are two."""
        until = min(max(1, round(spec.full_share * total_steps)), max(1, total_steps - 1))
        matrices = {"rank": spec.rank, "alpha": spec.alpha, "dropout": spec.dropout, "targets": spec.targets}
        return (
            Phase({"kind": "full"}, until),
            Phase({"kind": "lora", **matrices}, total_steps, spec.rate_factor, spec.warmup_ratio),
        )

    def prepare(self, model: Any, spec: Spec, given: Given) -> Any:
        """Prepare the first phase; see `engine/runtime/phases.py` for the second."""
        del spec, given
        return model.requires_grad_(True)

    def trainable(self, spec: Spec, facts: dict[str, Any]) -> int:
        """Those of the first phase, the most that ever move."""
        del spec
        return int(facts["parameters"])
