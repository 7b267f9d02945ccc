"""Pre-training: the model goes on learning from texts, and conversations among them. Every token carries loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from engine.objectives.predicting import token_trainer
from engine.specs.objective import ObjectiveSpec


class PretrainObjective:
    kind = "pretrain"
    row_kinds = ("text", "conversation")
    head = "language"
    learning_rate = 2e-5
    packs = True
    curves = ()
    metric = None
    best_by = "loss"

    class Spec(ObjectiveSpec):
        """Nothing to choose: a text is learned as it stands."""

        kind: Literal["pretrain"] = "pretrain"

    def tokens(self, row: dict[str, Any], renderer: Any, spec: Spec, room: Any) -> Sequence[dict[str, Any]]:
        del spec
        whole = [renderer.document(row["text"])] if "text" in row else _conversation(row, renderer)
        return [part.sft_columns() for one in whole for part in one.fit(room.or_else("split"))]

    def trainer(self, parts: Any) -> Any:
        return token_trainer(parts)


def _conversation(row: dict[str, Any], renderer: Any) -> list[Any]:
    """A conversation as the template writes it, learned whole."""
    found: list[Any] = renderer.conversation(row["messages"], row.get("tools"), prompt_too=True)
    return found
