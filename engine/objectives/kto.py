"""Kahneman–Tversky optimisation: good answers become likelier and bad ones less, one by one (Ethayarajh 2024)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from engine.objectives.answers import single
from engine.objectives.reference import with_reference
from engine.specs.base import setting
from engine.specs.objective import Needs, ObjectiveSpec
from engine.specs.problem import ProblemError, problem


class KtoObjective:
    kind = "kto"
    row_kinds = ("unpaired",)
    head = "language"
    learning_rate = 2e-6
    packs = False
    curves = ("rewards/chosen", "rewards/rejected", "rewards/margins", "kl")
    metric = None  # a batch may lack one of the two labels, and then tells no margin
    best_by = "loss"

    class Spec(ObjectiveSpec):
        """How far the model may move from where it starts, and what a good and a bad answer count."""

        kind: Literal["kto"] = "kto"
        beta: float = setting(
            0.1,
            "Beta",
            "How strongly the model is held to its start; larger values move it less.",
            simple=True,
            gt=0.0,
            le=10.0,
        )
        loss: Literal["kto", "apo_zero_unpaired"] = setting(
            "kto",
            "Loss",
            "kto: a row is compared with how far the model has moved on the other rows of its batch; "
            "apo_zero_unpaired: with the start alone, for answers that are better than the model's own.",
        )
        desirable_weight: float = setting(
            1.0, "Weight of good answers", "Raise it where good answers are few.", gt=0.0, le=100.0
        )
        undesirable_weight: float = setting(
            1.0, "Weight of bad answers", "Raise it where bad answers are few.", gt=0.0, le=100.0
        )
        threshold: float | None = setting(
            None,
            "Good from",
            "Rows with a score instead of a label are good from this score on; empty: they are left out.",
        )
        reference: Literal["cached", "live"] = setting(
            "cached",
            "Reference",
            "cached: the start's figures for each row are computed once and kept; live: at every step anew, with "
            "two forward passes more and, where all weights are trained, a second model in memory.",
        )

        def needs(self) -> Needs:
            return Needs(least_batch=2 if self.loss == "kto" else 1, reference=True)

    def tokens(self, row: dict[str, Any], renderer: Any, spec: Spec, room: Any) -> Sequence[dict[str, Any]]:
        label = row.get("label")
        if label is None and row.get("score") is not None and spec.threshold is not None:
            label = row["score"] >= spec.threshold
        if label is None:
            raise ProblemError([problem("row_no_label", field="data.dataset")])
        return [one.columns(label=bool(label)) for one in single(row, renderer, room, self.kind)]

    def trainer(self, parts: Any) -> Any:
        from trl import KTOConfig, KTOTrainer

        from engine.models.like_length import EvaluationBatches

        class PretokenisedKtoTrainer(KTOTrainer):
            """The rows arrive as tokens: what the token view shows is what is trained."""

            def _prepare_dataset(self, dataset: Any, processing_class: Any, args: Any, dataset_name: str) -> Any:
                del processing_class
                if not self.calculate_KL:
                    return dataset
                shuffled = dataset.shuffle(seed=args.seed).flatten_indices()
                size, named = args.per_device_train_batch_size, parts.task_types if dataset_name == "eval" else ()
                batches = EvaluationBatches.of(shuffled, size, named).places
                return shuffled.add_column("KL_completion_ids", _others(shuffled["completion_ids"][:], batches))

            def groups_rows(self) -> bool:
                """Not with the divergence: it grows with length, and would be another for short rows than for long."""
                return not self.calculate_KL

        chosen = parts.spec.objective
        arguments = KTOConfig(
            **parts.arguments,
            max_length=None,
            beta=chosen.beta,
            loss_type=chosen.loss,
            desirable_weight=chosen.desirable_weight,
            undesirable_weight=chosen.undesirable_weight,
            precompute_ref_log_probs=chosen.reference == "cached",
            train_sampling_strategy="sequential" if chosen.loss == "kto" else "random",
        )
        columns = ("ref_logps", "ref_KL_logps") if chosen.loss == "kto" else ("ref_logps",)
        live = chosen.reference == "live" and not hasattr(parts.model, "peft_config")
        return parts.staged(with_reference(PretokenisedKtoTrainer, columns, parts))(
            model=parts.model, ref_model=parts.reference() if live else None, args=arguments, **parts.common
        )


def _others(answers: Sequence[list[int]], batches: Sequence[Sequence[int]]) -> list[list[int]]:
    """For each row the answer of another row of its batch, from which the loss estimates how far the model has moved.

    The batches keep their rows from epoch to epoch, shuffled once; those of an evaluation are of one task type each.
    A batch of one row takes the last answer of the batch before it, whatever its task type.
    """
    found: list[list[int]] = [[]] * len(answers)
    for number, batch in enumerate(batches):
        before = batch[-1] if len(batch) > 1 else batches[number - 1][-1]
        for place, other in zip(batch, [before, *batch[:-1]], strict=True):
            found[place] = answers[other]
    return found
