"""Pre-training: the model goes on learning from plain text. Every token carries loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from engine.specs import base


class PretrainObjective:
    kind = "pretrain"
    row_kinds = ("text",)
    head = "language"
    learning_rate = 2e-5
    packs = True
    curves = ()
    metric = None

    class Spec(base.EntrySpec):
        """Nothing to choose: a text is learned as it stands."""

        kind: Literal["pretrain"] = "pretrain"

    def tokens(self, row: dict[str, Any], renderer: Any, spec: Spec, room: Any) -> Sequence[dict[str, Any]]:
        del spec
        return [part.sft_columns() for part in renderer.document(row["text"]).fit(room.or_else("split"))]

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
