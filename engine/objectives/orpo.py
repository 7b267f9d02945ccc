"""ORPO: the chosen answer is learned, and its odds are raised above the rejected one's, in one stage (Hong 2024)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from engine.objectives.answers import pairs
from engine.objectives.pair_trainer import Judged, Sides, pair_trainer
from engine.specs.base import setting
from engine.specs.objective import ObjectiveSpec

SURE = -1e-6
"""A mean log-probability nearer to zero has no odds."""


class OrpoObjective:
    kind = "orpo"
    row_kinds = ("preference",)
    head = "language"
    learning_rate = 5e-6
    packs = False
    curves = ("rewards/accuracies", "rewards/margins", "log_odds", "nll_loss")
    metric = "rewards/accuracies"
    best_by = "loss"

    class Spec(ObjectiveSpec):
        """How much the comparison counts beside the learning of the chosen answers."""

        kind: Literal["orpo"] = "orpo"
        odds_weight: float = setting(
            0.1,
            "Weight of the odds",
            "How much the comparison of both answers counts beside learning the chosen one.",
            simple=True,
            gt=0.0,
            le=10.0,
        )

    def tokens(self, row: dict[str, Any], renderer: Any, spec: Spec, room: Any) -> Sequence[dict[str, Any]]:
        del spec
        return [one.dpo_columns() for one in pairs(row, renderer, room, self.kind)]

    def trainer(self, parts: Any) -> Any:
        weight = parts.spec.objective.odds_weight
        return pair_trainer(parts, lambda sides: odds_ratio(sides, weight))


def odds_ratio(sides: Sides, weight: float) -> Judged:
    """The loss of each chosen answer and, weighted, that of the odds: equations 6 and 7 of arXiv 2403.07691."""
    from torch.nn.functional import logsigmoid

    chosen, rejected = sides.chosen_mean, sides.rejected_mean
    log_odds = _log_odds(chosen) - _log_odds(rejected)
    losses = -chosen - weight * logsigmoid(log_odds)
    return Judged(losses, weight * chosen, weight * rejected, {"log_odds": log_odds, "nll_loss": -chosen})


def _log_odds(log_probability: Any) -> Any:
    """log(p / (1 − p)), from log p."""
    import torch

    sure = log_probability.clamp(max=SURE)
    return sure - torch.log(-torch.expm1(sure))
