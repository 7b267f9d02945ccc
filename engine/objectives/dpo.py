"""Direct preference optimisation: the chosen answer becomes likelier than the rejected one (Rafailov et al. 2023)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import model_validator

from engine.objectives.answers import pairs
from engine.objectives.reference import with_reference
from engine.specs.base import SpecError, setting
from engine.specs.objective import Needs, ObjectiveSpec
from engine.specs.problem import problem

SMOOTHED = ("robust", "exo_pair", "aot", "aot_unpaired")
"""The losses that know of wrong labels."""
SORTED = ("aot", "aot_unpaired")
"""The losses that compare the rows of a batch with each other."""
COLUMNS = ("ref_chosen_logps", "ref_rejected_logps")


class DpoObjective:
    kind = "dpo"
    row_kinds = ("preference",)
    head = "language"
    learning_rate = 2e-6
    packs = False
    curves = ("rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies")
    metric = "rewards/accuracies"
    best_by = "loss"

    class Spec(ObjectiveSpec):
        """How far the model may move from where it starts, and what counts as better."""

        kind: Literal["dpo"] = "dpo"
        beta: float = setting(
            0.1,
            "Beta",
            "How strongly the model is held to its start; larger values move it less.",
            simple=True,
            gt=0.0,
            le=10.0,
        )
        loss: Literal[
            "sigmoid",
            "ipo",
            "hinge",
            "robust",
            "sigmoid_norm",
            "exo_pair",
            "nca_pair",
            "bco_pair",
            "sppo_hard",
            "aot",
            "aot_unpaired",
            "apo_zero",
            "apo_down",
            "discopop",
        ] = setting(
            "sigmoid",
            "Loss",
            "What a pair costs: sigmoid is DPO itself; ipo stays calm on clear pairs; robust bears wrong labels.",
        )
        sft_weight: float = setting(
            0.0,
            "Weight of the SFT term",
            "Learns the chosen answers as well, by this share of their loss; keeps them from becoming less likely.",
            ge=0.0,
            le=10.0,
        )
        label_smoothing: float = setting(
            0.0,
            "Share of wrong labels",
            "How many pairs are expected to be the wrong way round; for the losses robust, exo_pair, aot and "
            "aot_unpaired.",
            ge=0.0,
            lt=0.5,
        )
        reference: Literal["cached", "live"] = setting(
            "cached",
            "Reference",
            "cached: the start's figures for each row are computed once and kept; live: at every step anew, which then "
            "takes 1.4 times as long (measured) and, where all weights are trained, needs a second model in memory.",
        )

        @model_validator(mode="after")
        def _smoothing_fits(self) -> DpoObjective.Spec:
            if self.label_smoothing and self.loss not in SMOOTHED:
                values: dict[str, Any] = {"given": self.loss, "allowed": ", ".join(SMOOTHED)}
                raise SpecError(problem("objective_smoothing_unused", field="objective.label_smoothing", **values))
            if self.loss == "exo_pair" and not self.label_smoothing:
                raise SpecError(problem("objective_smoothing_needed", field="objective.label_smoothing"))
            return self

        def needs(self) -> Needs:
            return Needs(least_batch=2 if self.loss in SORTED else 1, reference=True)

    def tokens(self, row: dict[str, Any], renderer: Any, spec: Spec, room: Any) -> Sequence[dict[str, Any]]:
        del spec
        return [one.dpo_columns() for one in pairs(row, renderer, room, self.kind)]

    def trainer(self, parts: Any) -> Any:
        from trl import DPOConfig, DPOTrainer

        class PretokenisedDpoTrainer(DPOTrainer):
            """The rows arrive as tokens: what the token view shows is what is trained."""

            def _prepare_dataset(self, dataset: Any, *arguments: Any, **named: Any) -> Any:
                del arguments, named
                return dataset

            def groups_rows(self) -> bool:
                return chosen.loss not in SORTED

            def groups_evaluation(self) -> bool:
                return chosen.loss not in SORTED

        chosen = parts.spec.objective
        losses = {chosen.loss: 1.0, **({"sft": chosen.sft_weight} if chosen.sft_weight else {})}
        arguments = DPOConfig(
            **parts.arguments,
            max_length=None,
            beta=chosen.beta,
            loss_type=list(losses),
            loss_weights=list(losses.values()),
            label_smoothing=chosen.label_smoothing,
            precompute_ref_log_probs=chosen.reference == "cached",
        )
        live = chosen.reference == "live" and not hasattr(parts.model, "peft_config")
        return parts.staged(with_reference(PretokenisedDpoTrainer, COLUMNS, parts))(
            model=parts.model, ref_model=parts.reference() if live else None, args=arguments, **parts.common
        )
