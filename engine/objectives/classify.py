"""Classification: a head on the base says which label a text has (cross-entropy over the labels)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from engine.specs.base import setting
from engine.specs.objective import ObjectiveSpec
from engine.specs.problem import ProblemError, problem

FEWEST_LABELS, MOST_LABELS = 2, 1000


class ClassifyObjective:
    kind = "classify"
    row_kinds = ("conversation",)
    head = "classifier"
    learning_rate = 2e-5
    packs = False
    curves = ("accuracy", "macro_f1")
    metric = "macro_f1"
    best_by = "loss"

    class Spec(ObjectiveSpec):
        """How much each label weighs, and how sure the model is to become."""

        kind: Literal["classify"] = "classify"
        class_weights: Literal["none", "balanced"] = setting(
            "none",
            "Weights of the labels",
            "balanced: rows of a rare label count more, so that all labels weigh the same; none: rows count alike.",
            simple=True,
        )
        label_smoothing: float = setting(
            0.0,
            "Label smoothing",
            "Share of each answer that is spread evenly over all labels: the model becomes less sure of itself.",
            ge=0.0,
            le=0.5,
        )

    def tokens(self, row: dict[str, Any], renderer: Any, spec: Spec, room: Any) -> Sequence[dict[str, Any]]:
        from engine.data.labelled import RenderedLabel

        del spec
        *before, answer = row["messages"]
        label = str(answer.get("content") or "").strip()
        if answer["role"] != "assistant" or not before or not label:
            raise ProblemError([problem("row_no_class")])
        read = RenderedLabel(renderer.read_prompt(before, row.get("tools")), label)
        return [one.columns() for one in read.fit(room.or_else("cut_end"))]

    def labels(self, train: Any) -> Sequence[str]:
        found = sorted({str(one) for one in train["label"]})
        if not FEWEST_LABELS <= len(found) <= MOST_LABELS:
            given = {"count": len(found), "fewest": FEWEST_LABELS, "most": MOST_LABELS}
            raise ProblemError([problem("data_label_count", field="data.dataset", **given)])
        return found

    def trainer(self, parts: Any) -> Any:
        from transformers import TrainingArguments

        from engine.models.by_task import with_tasks
        from engine.models.labelling import LabelTrainer, collator, known, read_last

        chosen = parts.spec.objective
        read_last(parts.model)
        numbers: dict[str, int] = parts.model.config.label2id
        held_out = parts.common["eval_dataset"]
        common = {**parts.common, "eval_dataset": known(held_out, numbers)}
        if held_out is not None and not len(common["eval_dataset"]):
            raise ProblemError([problem("data_labels_unseen", field="data.eval_fraction", rows=len(held_out))])
        arguments = TrainingArguments(**parts.arguments, remove_unused_columns=False)
        trainer = parts.staged(LabelTrainer)(
            model=parts.model,
            args=arguments,
            data_collator=with_tasks(collator(common["processing_class"], numbers), parts.task_types),
            **common,
        )
        trainer.weigh(chosen.class_weights == "balanced", chosen.label_smoothing, numbers)
        return trainer
