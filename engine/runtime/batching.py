"""Which rows meet in a batch: the part of a trainer that draws them, and that evaluates."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader
from transformers.trainer_utils import EvalLoopOutput, EvalPrediction

from engine.models.by_task import TASK_LOSS
from engine.models.like_length import EvaluationBatches, LikeLength, padded_lengths


class Batching:
    """Stands before the library's trainer among the bases of ours; `Usual` tells what its objective may decline."""

    task_types: Sequence[str] = ()
    """Those whose losses are told apart."""

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        trainer: Any = self
        if not trainer.groups_rows():
            return super()._get_train_sampler(train_dataset)  # type: ignore[misc]
        rows, arguments = trainer.train_dataset if train_dataset is None else train_dataset, trainer.args
        step = arguments.per_device_train_batch_size * arguments.gradient_accumulation_steps
        return LikeLength(padded_lengths(rows), step=step, seed=arguments.data_seed)

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
        trainer: Any = self
        if not trainer.groups_evaluation():
            return super().get_eval_dataloader(eval_dataset)  # type: ignore[misc]
        rows = trainer.eval_dataset if eval_dataset is None else eval_dataset
        lengths = padded_lengths(rows) if trainer.groups_rows() else None
        batches = EvaluationBatches.of(rows, trainer.args.per_device_eval_batch_size, self.task_types, lengths)
        return DataLoader(trainer._remove_unused_columns(rows), batch_sampler=batches, collate_fn=trainer.data_collator)

    def evaluation_loop(self, dataloader: Any, description: str, *positional: Any, **named: Any) -> Any:
        """The means over all rows, and the loss of each task type.

        A loss that is itself a mean over a batch's tokens (distillation, DPO's SFT term) depends a little on which rows
        meet.

        The library counts each batch alike, whether it is full or not, and knows a batch by its loss alone: all of its
        rows are of one task type here, so that no row has to be asked twice.
        """
        if not isinstance(dataloader.batch_sampler, EvaluationBatches):
            return super().evaluation_loop(dataloader, description, *positional, **named)  # type: ignore[misc]
        trainer: Any = self
        trainer.model.eval()
        if hasattr(trainer.optimizer, "eval"):  # some optimisers keep other weights for it
            trainer.optimizer.eval()
        figures, outputs = self._evaluated(dataloader)
        metrics = {name: sum(values) / len(values) for name, values in figures.items()}
        if trainer.compute_metrics is not None:
            logits, labels = (torch.cat(each).cpu().numpy() for each in zip(*outputs, strict=True))
            metrics |= trainer.compute_metrics(EvalPrediction(predictions=logits, label_ids=labels))
        prefix = named.get("metric_key_prefix", "eval")
        told = {f"{prefix}_{name}": value for name, value in metrics.items()}
        return EvalLoopOutput(None, None, told, len(dataloader.dataset))

    def _evaluated(self, dataloader: Any) -> tuple[Mapping[str, Sequence[float]], Sequence[tuple[Any, Any]]]:
        """The loss of each row, in all and by task type, and what the model gave where that is measured."""
        trainer: Any = self
        figures: dict[str, list[float]] = defaultdict(list)
        outputs: list[tuple[Any, Any]] = []
        batches = dataloader.batch_sampler
        for places, task, inputs in zip(batches.places, batches.tasks, dataloader, strict=True):
            before = self._counts()
            loss, *given = trainer.prediction_step(trainer.model, inputs, trainer.compute_metrics is None)
            self._count_rows(before, len(places))
            for name in ("loss", *([TASK_LOSS + task] if task else [])):
                figures[name] += [float(loss)] * len(places)
            outputs.append(tuple(given))
            trainer.control = trainer.callback_handler.on_prediction_step(trainer.args, trainer.state, trainer.control)
        return figures, outputs

    def _counts(self) -> dict[str, int]:
        return {name: len(values) for name, values in self._own().items()}

    def _count_rows(self, before: Mapping[str, int], rows: int) -> None:
        """Let what the objective has noted of a batch count once for each of its rows."""
        for name, values in self._own().items():
            values += values[before.get(name, 0) :] * (rows - 1)

    def _own(self) -> dict[str, list[float]]:
        """TRL's own figures of an evaluation, each the mean of a list."""
        found: dict[str, list[float]] = getattr(self, "_metrics", {}).get("eval", {})
        return found
