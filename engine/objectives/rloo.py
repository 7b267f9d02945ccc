"""REINFORCE leave-one-out: each answer is compared with the mean of the others to its prompt (Ahmadian et al. 2024)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from engine.objectives import online
from engine.specs.base import setting


class RlooObjective:
    kind = "rloo"
    row_kinds = ("conversation", "preference")
    head = "language"
    group = "rewards"
    learning_rate = 1e-6
    packs = False
    curves = online.CURVES
    metric = "reward"
    best_by = "metric"

    class Spec(online.OnlineSpec):
        """What is done with the rewards before they are compared."""

        kind: Literal["rloo"] = "rloo"
        normalise: bool = setting(
            False, "Normalise", "Divide what an answer is better or worse by how far those of the step lie apart."
        )
        leave_out_cut: bool = setting(
            False, "Leave out cut answers", "Answers that were not finished teach nothing, whatever their reward."
        )

    def tokens(self, row: dict[str, Any], renderer: Any, spec: Spec, room: Any) -> Sequence[dict[str, Any]]:
        return online.tokens(row, renderer, spec, room)

    def trainer(self, parts: Any) -> Any:
        from trl import RLOOConfig, RLOOTrainer

        section = parts.spec.objective
        own = {"normalize_advantages": section.normalise, "mask_truncated_completions": section.leave_out_cut}
        return online.trainer(parts, RLOOTrainer, RLOOConfig, own)
