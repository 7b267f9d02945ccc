"""SimPO: the chosen answer's mean log-probability above the rejected one's, by a margin (Meng, Xia and Chen 2024)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from engine.objectives.answers import pairs
from engine.objectives.pair_trainer import Judged, Sides, pair_trainer
from engine.specs.base import setting
from engine.specs.objective import ObjectiveSpec


class SimpoObjective:
    kind = "simpo"
    row_kinds = ("preference",)
    head = "language"
    learning_rate = 1e-6
    packs = False
    curves = ("rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies", "nll_loss")
    metric = "rewards/accuracies"
    best_by = "loss"

    class Spec(ObjectiveSpec):
        """How far apart the two answers are to be."""

        kind: Literal["simpo"] = "simpo"
        beta: float = setting(
            2.0,
            "Beta",
            "Scale of the mean log-probabilities that are compared; larger values push already clear pairs less.",
            simple=True,
            gt=0.0,
            le=100.0,
        )
        margin: float = setting(
            1.0,
            "Target margin",
            "By how much the chosen answer's reward is to exceed the other's; the paper takes about half of beta.",
            simple=True,
            ge=0.0,
            le=100.0,
        )
        sft_weight: float = setting(
            0.0,
            "Weight of the SFT term",
            "Learns the chosen answers as well, by this share of their loss; nothing else holds the model.",
            ge=0.0,
            le=10.0,
        )

    def tokens(self, row: dict[str, Any], renderer: Any, spec: Spec, room: Any) -> Sequence[dict[str, Any]]:
        del spec
        return [one.dpo_columns() for one in pairs(row, renderer, room, self.kind)]

    def trainer(self, parts: Any) -> Any:
        chosen = parts.spec.objective
        return pair_trainer(parts, lambda sides: simple(sides, chosen.beta, chosen.margin, chosen.sft_weight))


def simple(sides: Sides, beta: float, margin: float, sft_weight: float) -> Judged:
    """Equation 6 of arXiv 2405.14734, and the chosen answer's own loss by `sft_weight`."""
    from torch.nn.functional import logsigmoid

    chosen, rejected = beta * sides.chosen_mean, beta * sides.rejected_mean
    nll = -sides.chosen_mean
    losses = -logsigmoid(chosen - rejected - margin) + sft_weight * nll
    return Judged(losses, chosen, rejected, {"nll_loss": nll})
