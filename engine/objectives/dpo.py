"""Direct preference optimisation: the chosen answer becomes likelier than the rejected one (Rafailov et al. 2023)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from engine.specs import base
from engine.specs.base import setting


class DpoObjective:
    kind = "dpo"
    row_kinds = ("preference",)
    head = "language"
    learning_rate = 2e-6
    packs = False
    curves = ("rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies")
    metric = "rewards/accuracies"

    class Spec(base.EntrySpec):
        """How far the model may move from where it starts."""

        kind: Literal["dpo"] = "dpo"
        beta: float = setting(
            0.1,
            "Beta",
            "How strongly the model is held to its start; larger values move it less.",
            simple=True,
            gt=0.0,
            le=10.0,
        )

    def tokens(self, row: dict[str, Any], renderer: Any, spec: Spec, room: Any) -> Sequence[dict[str, Any]]:
        del spec
        pair = renderer.preference(row["prompt"], row["chosen"], row["rejected"], row.get("tools"))
        return [one.dpo_columns() for one in pair.fit(room.or_else("cut_end"))]

    def labels(self, train: Any) -> Sequence[str]:
        del train
        return ()

    def trainer(self, parts: Any) -> Any:
        from trl import DPOConfig, DPOTrainer

        class PretokenisedDpoTrainer(DPOTrainer):
            """The rows arrive as tokens: what the token view shows is what is trained."""

            def _prepare_dataset(self, dataset: Any, *arguments: Any, **named: Any) -> Any:
                del arguments, named
                return dataset

        arguments = DPOConfig(**parts.arguments, max_length=None, beta=parts.spec.objective.beta)
        reference = None if hasattr(parts.model, "peft_config") else parts.reference()
        return parts.staged(PretokenisedDpoTrainer)(
            model=parts.model, ref_model=reference, args=arguments, **parts.common
        )
