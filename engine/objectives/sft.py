"""Supervised fine-tuning: the model learns the rows' answers. Loss on answer tokens, end of turn included."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from engine.specs import base
from engine.specs.base import setting


class SftObjective:
    kind = "sft"
    row_kinds = ("conversation",)
    head = "language"
    learning_rate = 2e-5
    packs = True
    curves = ()
    metric = None

    class Spec(base.EntrySpec):
        """Which tokens are trained."""

        kind: Literal["sft"] = "sft"
        train_on: Literal["assistant", "last", "flagged"] = setting(
            "assistant",
            "Trained answers",
            "assistant: every answer of a conversation; last: the last one only; flagged: those marked to be trained.",
        )
        train_on_prompt: bool = setting(
            False, "Train prompts too", "Learn the questions as well as the answers: every token carries loss."
        )

    def tokens(self, row: dict[str, Any], renderer: Any, spec: Spec, room: Any) -> Sequence[dict[str, Any]]:
        rendered = renderer.conversation(
            row["messages"], row.get("tools"), train_on=spec.train_on, prompt_too=spec.train_on_prompt
        )
        return [part.sft_columns() for one in rendered for part in one.fit(room.or_else("cut_end"))]

    def labels(self, train: Any) -> Sequence[str]:
        del train
        return ()

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
