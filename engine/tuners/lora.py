"""LoRA: small matrices beside the frozen ones (Hu et al. 2021). On an nf4 base this is QLoRA (Dettmers et al. 2023)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from engine.specs import base
from engine.specs.base import setting
from engine.tuners.protocol import Given

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")


class LoraTuner:
    kind = "lora"
    refuses: ClassVar[Mapping[str, str]] = {}
    is_adapter = True
    merges = True
    packs = True
    rate_factor = 10.0

    class Spec(base.EntrySpec):
        """Size, scale and place of the matrices."""

        kind: Literal["lora"] = "lora"
        rank: int = setting(
            16,
            "Rank",
            "Width of the added matrices: their capacity. 8–16 is usually enough.",
            simple=True,
            ge=1,
            le=1024,
        )
        alpha: float = setting(32.0, "Alpha", "The added part is scaled by alpha / rank.", gt=0.0, le=4096.0)
        dropout: float = setting(
            0.0, "Dropout", "Share of inputs to the added matrices that is dropped at random.", ge=0.0, le=0.9
        )
        targets: Literal["all-linear", "attention"] = setting(
            "all-linear", "Layers", "Which linear layers get matrices: all of them, or those of the attention alone."
        )
        lora_plus_ratio: float = setting(
            1.0,
            "Rate of B to A",
            "How much faster the second matrix of each pair learns than the first (LoRA+); 16 is usual, 1: alike.",
            ge=1.0,
            le=1024.0,
        )

    def prepare(self, model: Any, spec: Spec, given: Given) -> Any:
        from peft import LoraConfig, get_peft_model

        config = LoraConfig(
            r=spec.rank,
            lora_alpha=spec.alpha,
            lora_dropout=spec.dropout,
            target_modules="all-linear" if spec.targets == "all-linear" else list(ATTENTION),
            task_type=given.task,
        )
        return get_peft_model(model, config)

    def trainable(self, spec: Spec, facts: dict[str, Any]) -> int:
        shapes = facts["linear_shapes"]
        chosen = [s for s in shapes if spec.targets == "all-linear" or s["name"].rsplit(".", 1)[-1] in ATTENTION]
        return sum(spec.rank * (int(shape["in"]) + int(shape["out"])) for shape in chosen)
