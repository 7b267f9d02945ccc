"""CPO: DPO without a reference, held by learning the chosen answers as well (Xu et al. 2024)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal

from pydantic import model_validator

from engine.objectives.answers import pairs
from engine.objectives.pair_trainer import Judged, Sides, pair_trainer
from engine.specs.base import SpecError, setting
from engine.specs.objective import ObjectiveSpec
from engine.specs.problem import problem


class CpoObjective:
    kind = "cpo"
    row_kinds = ("preference",)
    head = "language"
    learning_rate = 2e-6
    packs = False
    curves = ("rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies", "nll_loss")
    metric = "rewards/accuracies"
    best_by = "loss"

    class Spec(ObjectiveSpec):
        """What counts as better, and how much the chosen answers are learned."""

        kind: Literal["cpo"] = "cpo"
        beta: float = setting(
            0.1,
            "Beta",
            "Scale of the log-probabilities that are compared; larger values push already clear pairs less.",
            simple=True,
            gt=0.0,
            le=10.0,
        )
        loss: Literal["sigmoid", "hinge", "ipo"] = setting(
            "sigmoid",
            "Loss",
            "What a pair costs: sigmoid is CPO itself; hinge stops at clear pairs; ipo aims at a certain distance.",
        )
        sft_weight: float = setting(
            1.0,
            "Weight of the SFT term",
            "Learns the chosen answers as well, by this share of their loss; it is what holds the model.",
            simple=True,
            ge=0.0,
            le=10.0,
        )
        label_smoothing: float = setting(
            0.0,
            "Share of wrong labels",
            "How many pairs are expected to be the wrong way round; for the loss sigmoid.",
            ge=0.0,
            lt=0.5,
        )

        @model_validator(mode="after")
        def _smoothing_fits(self) -> CpoObjective.Spec:
            if self.label_smoothing and self.loss != "sigmoid":
                values: dict[str, Any] = {"given": self.loss, "allowed": "sigmoid"}
                raise SpecError(problem("objective_smoothing_unused", field="objective.label_smoothing", **values))
            return self

    def tokens(self, row: dict[str, Any], renderer: Any, spec: Spec, room: Any) -> Sequence[dict[str, Any]]:
        del spec
        return [one.dpo_columns() for one in pairs(row, renderer, room, self.kind)]

    def trainer(self, parts: Any) -> Any:
        chosen = parts.spec.objective
        return pair_trainer(parts, lambda sides: contrastive(sides, chosen))


def contrastive(sides: Sides, spec: CpoObjective.Spec) -> Judged:
    """Equation 3 of arXiv 2401.08417: the comparison, and the chosen answer's own loss by `sft_weight`."""
    nll = -sides.chosen_mean
    losses = LOSSES[spec.loss](sides, spec) + spec.sft_weight * nll
    return Judged(losses, spec.beta * sides.chosen, spec.beta * sides.rejected, {"nll_loss": nll})


def _sigmoid(sides: Sides, spec: CpoObjective.Spec) -> Any:
    """With the share of wrong labels as in conservative DPO (Mitchell 2023)."""
    from torch.nn.functional import logsigmoid

    distance = spec.beta * (sides.chosen - sides.rejected)
    return -(1 - spec.label_smoothing) * logsigmoid(distance) - spec.label_smoothing * logsigmoid(-distance)


def _hinge(sides: Sides, spec: CpoObjective.Spec) -> Any:
    """Zhao et al. 2023, SLiC."""
    from torch import relu

    return relu(1 - spec.beta * (sides.chosen - sides.rejected))


def _ipo(sides: Sides, spec: CpoObjective.Spec) -> Any:
    """Azar et al. 2023, equation 17, on means over tokens: sums grow with the answers' length."""
    return (sides.chosen_mean - sides.rejected_mean - 1 / (2 * spec.beta)) ** 2


LOSSES: Mapping[str, Callable[[Sides, Any], Any]] = MappingProxyType(
    {"sigmoid": _sigmoid, "hinge": _hinge, "ipo": _ipo}
)
