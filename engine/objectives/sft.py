"""Supervised fine-tuning: the model learns the rows' answers. Loss on answer tokens, end of turn included."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from engine.specs import base
from engine.specs.base import setting


class SftObjective:
    kind = "sft"
    row_kind = "conversation"
    packs = True
    curves = ()

    class Spec(base.EntrySpec):
        """Which answers are trained."""

        kind: Literal["sft"] = "sft"
        train_on: Literal["assistant", "last"] = setting(
            "assistant", "Trained answers", "assistant: every answer of a conversation; last: the last one only."
        )

    def tokens(self, row: dict[str, Any], renderer: Any, spec: Spec, max_length: int) -> Sequence[dict[str, Any]]:
        rendered = renderer.conversation(row["messages"], last_only=spec.train_on == "last")
        return [part.cut(max_length).sft_columns() for part in rendered]

    def trainer(self, parts: Any) -> Any:
        from trl import SFTConfig, SFTTrainer

        arguments = SFTConfig(
            **parts.arguments,
            max_length=None,
            packing=False,
            padding_free=parts.spec.data.packing,
            dataset_kwargs={"skip_prepare_dataset": True},
        )
        return parts.staged(SFTTrainer)(model=parts.model, args=arguments, **parts.common)
