"""A throw-away objective, written as the README says: one file, one line, one test. It trains every token."""

from __future__ import annotations

from typing import Any, Literal

from engine.specs.base import setting
from engine.specs.objective import ObjectiveSpec


class EchoObjective:
    kind = "echo"
    row_kinds = ("conversation",)
    head = "language"
    learning_rate = 2e-5
    packs = False
    curves = ()
    metric = None
    best_by = "loss"

    class Spec(ObjectiveSpec):
        """One setting, to see it in the form."""

        kind: Literal["echo"] = "echo"
        loudness: float = setting(1.0, "Loudness", "Does nothing at all.", simple=True, ge=0.0, le=2.0)

    def tokens(self, row: dict[str, Any], renderer: Any, spec: Spec, room: Any) -> list[dict[str, Any]]:
        made = [part.sft_columns() for one in renderer.conversation(row["messages"]) for part in one.fit(room)]
        for columns in made:
            columns["labels"] = list(columns["input_ids"])
        return made

    def trainer(self, parts: Any) -> Any:
        from trl import SFTConfig, SFTTrainer

        arguments = SFTConfig(**parts.arguments, max_length=None, dataset_kwargs={"skip_prepare_dataset": True})
        return parts.staged(SFTTrainer)(model=parts.model, args=arguments, **parts.common)
