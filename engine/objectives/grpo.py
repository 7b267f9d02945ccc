"""Group relative policy optimisation: answers that are better than the others to the same prompt become likelier
(Shao et al. 2024, DeepSeekMath)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from engine.objectives import online
from engine.specs.base import setting


class GrpoObjective:
    kind = "grpo"
    row_kinds = ("conversation", "preference")
    head = "language"
    group = "rewards"
    learning_rate = 1e-6
    packs = False
    curves = online.CURVES
    metric = "reward"
    best_by = "metric"

    class Spec(online.OnlineSpec):
        """How the answers of a group are compared."""

        kind: Literal["grpo"] = "grpo"
        scale_rewards: Literal["group", "batch", "none"] = setting(
            "group",
            "Scale rewards",
            "Divide by how far the rewards of a group, or of the whole step, lie apart; none: only their mean is taken "
            "off, which does not favour prompts that are easy or hard.",
        )
        loss_type: Literal["grpo", "dapo", "bnpo", "dr_grpo"] = setting(
            "dapo",
            "Loss",
            "How tokens are averaged. grpo: each answer alike, whatever its length; dapo: each token of the step "
            "alike; bnpo: each token of a pass alike; dr_grpo: by the longest answer that there can be.",
        )
        leave_out_cut: bool = setting(
            False, "Leave out cut answers", "Answers that were not finished teach nothing, whatever their reward."
        )

    def tokens(self, row: dict[str, Any], renderer: Any, spec: Spec, room: Any) -> Sequence[dict[str, Any]]:
        return online.tokens(row, renderer, spec, room)

    def trainer(self, parts: Any) -> Any:
        from trl import GRPOConfig, GRPOTrainer

        section = parts.spec.objective
        own = {
            "scale_rewards": section.scale_rewards,
            "loss_type": section.loss_type,
            "mask_truncated_completions": section.leave_out_cut,
        }
        return online.trainer(parts, GRPOTrainer, GRPOConfig, own)
