"""A label head: which token it reads, how it is trained, and how good it is. Runs in child processes only."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from transformers import Trainer
from transformers.modeling_outputs import SequenceClassifierOutput

from engine.models.by_task import add_by_task

Labels = NDArray[numpy.int64]


def read_last(model: Any) -> None:
    """Let the head read the last real token of each row.

    The library looks for the last token that is not the one for padding: where that one also ends a turn, it would
    read a token too early.
    """
    plain = model.get_base_model() if hasattr(model, "peft_config") else model

    def forward(input_ids: Any = None, attention_mask: Any = None, inputs_embeds: Any = None, **more: Any) -> Any:
        more.pop("labels", None)
        inner = getattr(plain, plain.base_model_prefix)
        read = inner(input_ids, attention_mask=attention_mask, inputs_embeds=inputs_embeds, **more).last_hidden_state
        rows = torch.arange(len(read), device=read.device)
        last = read[rows, last_places(attention_mask)]
        return SequenceClassifierOutput(logits=plain.score(last.to(_dtype(plain.score))))

    plain.forward = forward


def last_places(mask: Tensor) -> Tensor:
    """The place of the last real token of each row."""
    return (mask * torch.arange(mask.shape[1], device=mask.device)).argmax(dim=1)


def _dtype(head: Any) -> torch.dtype:
    """The format of the head that is in use: an adapter brings a trained one of its own."""
    weights: list[Tensor] = list(head.parameters())
    return next((one.dtype for one in weights if one.requires_grad), weights[-1].dtype)


def collator(tokenizer: Any, numbers: Mapping[str, int]) -> Callable[[Sequence[Mapping[str, Any]]], dict[str, Tensor]]:
    """Rows of tokens as one batch, filled up at the end; a label becomes its number."""
    filler = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0

    def collate(rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        batch = padded([row["input_ids"] for row in rows], filler)
        return {**batch, "labels": torch.tensor([numbers[row["label"]] for row in rows])}

    return collate


def padded(rows: Sequence[Sequence[int]], filler: int) -> dict[str, Tensor]:
    """`input_ids` and `attention_mask` of rows of different lengths."""
    longest = max(map(len, rows))
    ids = [[*row, *[filler] * (longest - len(row))] for row in rows]
    mask = [[1] * len(row) + [0] * (longest - len(row)) for row in rows]
    return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}


def known(rows: Any, numbers: Mapping[str, int]) -> Any:
    """The rows whose label is one of the head's; None where there are no rows at all."""
    return None if rows is None else rows.filter(lambda row: row["label"] in numbers)


class LabelTrainer(Trainer):
    """The library's trainer with the loss and the measures of a label head."""

    _weights: Tensor | None = None
    _smoothing = 0.0
    _total_train_tokens = 0.0
    task_types: Sequence[str] = ()
    """Those whose losses are told apart."""

    def __init__(self, *positional: Any, **named: Any) -> None:
        super().__init__(*positional, compute_metrics=_measured, **named)
        self._metrics: dict[str, dict[str, list[float]]] = {"train": {}}
        self.loss_is_scaled_for_ga = False  # a mean over the rows of a batch

    def weigh(self, balanced: bool, smoothing: float, numbers: Mapping[str, int]) -> None:
        """Set how much each label counts, and how far the answers are smoothed."""
        self._smoothing = smoothing
        if balanced:
            places = [numbers[label] for label in self.train_dataset["label"]]
            self._weights = balanced_weights(numpy.array(places), len(numbers)).to(self.args.device)

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        del num_items_in_batch
        labels = inputs["labels"]
        outputs = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"])
        losses = label_losses(outputs.logits, labels, self._weights, self._smoothing)
        if model.training:
            self._total_train_tokens += float(inputs["attention_mask"].sum())
            add_by_task(self._metrics["train"], losses, inputs["tasks"], self.task_types)
        loss = losses.mean()
        return (loss, outputs) if return_outputs else loss

    def prediction_step(
        self, model: Any, inputs: dict[str, Any], prediction_loss_only: bool, ignore_keys: Any = None
    ) -> tuple[Any, Any, Any]:
        del ignore_keys
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            loss, outputs = self.compute_loss(model, inputs, return_outputs=True)
        given = (None, None) if prediction_loss_only else (outputs.logits.float(), inputs["labels"])
        return (loss.detach(), *given)

    def log(self, logs: dict[str, float], *more: Any, **named: Any) -> None:
        if "loss" in logs:
            logs["num_tokens"] = self._total_train_tokens
            logs |= {name: sum(each) / len(each) for name, each in self._metrics["train"].items()}
            self._metrics["train"].clear()
        super().log(logs, *more, **named)


def label_losses(logits: Tensor, labels: Tensor, weights: Tensor | None, smoothing: float) -> Tensor:
    """The cross-entropy of each row; with `weights`, each counts as much as its label's weight.

    What is learned is their mean over the rows, not over the weights: batches of any size add up to the same step.
    """
    each = functional.cross_entropy(logits.float(), labels, label_smoothing=smoothing, reduction="none")
    return each if weights is None else each * weights[labels]


def predict(
    model: Any, rows: Sequence[Sequence[int]], *, at_once: int, seen: Callable[[], None] = lambda: None
) -> Labels:
    """The number of the label that the head gives each row of tokens; `seen` is called at each batch."""
    model.eval()
    found: list[Tensor] = []
    for first in range(0, len(rows), at_once):
        batch = {name: one.to(model.device) for name, one in padded(rows[first : first + at_once], 0).items()}
        with torch.no_grad():
            found.append(model(**batch).logits.argmax(dim=1).cpu())
        seen()
    places: Labels = torch.cat(found).numpy()
    return places


def balanced_weights(labels: Labels, count: int) -> Tensor:
    """For each label the weight with which all labels together count the same; one on average over the rows."""
    found = numpy.bincount(labels, minlength=count)
    return torch.tensor(len(labels) / (numpy.count_nonzero(found) * numpy.maximum(found, 1)), dtype=torch.float32)


def _measured(given: Any) -> dict[str, float]:
    return measures(given.predictions.argmax(axis=-1), given.label_ids)


def measures(predicted: Labels, true: Labels) -> dict[str, float]:
    """The share of rows that are right, and the mean of the labels' F1 over all labels that are there or were said."""
    scores = []
    for label in numpy.union1d(predicted, true):
        hit = int(((predicted == label) & (true == label)).sum())
        scores.append(2 * hit / int((predicted == label).sum() + (true == label).sum()))
    return {"accuracy": float((predicted == true).mean()), "macro_f1": float(numpy.mean(scores))}
