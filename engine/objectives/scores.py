"""Regression on the scores of single answers, for the reward objective."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from engine.specs.problem import ProblemError, problem


def score_trainer(parts: Any, base: type, named: dict[str, Any]) -> Any:
    """The trainer that learns rows' scores: the squared error, in units of the variance of the training rows.

    A loss of 1 is that of one who says the mean for each. `base` is TRL's trainer of reward models, `named` are its
    arguments.

    Raises:
        ProblemError: `data_scores_equal`, there is nothing to learn from scores that are all the same.
    """
    import torch

    from engine.data.tokens import TASK_TYPE
    from engine.models.by_task import add_by_task, with_tasks

    mean, deviation = _spread(parts.common["train_dataset"])

    class ScoreTrainer(base):
        def _set_signature_columns_if_needed(self) -> None:
            self._signature_columns = ["input_ids", "score", TASK_TYPE]

        def groups_evaluation(self) -> bool:
            """No: accuracy and margin compare the rows of a batch, which are to be any."""
            return False

        def compute_loss(
            self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            del num_items_in_batch
            given = {name: inputs[name] for name in ("input_ids", "attention_mask")}
            outputs = model(**given, use_cache=False)
            found = outputs.logits.squeeze(-1)
            wanted = ((inputs["score"] - mean) / deviation).to(found.dtype)
            losses = torch.nn.functional.mse_loss(found, wanted, reduction="none")
            self._note(found.detach(), wanted, inputs["attention_mask"])
            figures = self._metrics["train" if self.model.training else "eval"]
            add_by_task(figures, losses, inputs["tasks"], self.task_types)
            loss = losses.mean()
            return (loss, outputs) if return_outputs else loss

        def _note(self, found: torch.Tensor, wanted: torch.Tensor, mask: torch.Tensor) -> None:
            """Note how many of the batch's pairs of rows with different scores are in the right order, and how far."""
            mode = "train" if self.model.training else "eval"
            if mode == "train":
                self._total_train_tokens += int(mask.sum().item())
            self._metrics[mode]["num_tokens"] = [self._total_train_tokens]
            self._metrics[mode]["mean_reward"].append(found.mean().item())
            better = wanted[:, None] > wanted[None, :]
            margins = (found[:, None] - found[None, :])[better]
            if len(margins):
                self._metrics[mode]["accuracy"].append((margins > 0).float().mean().item())
                self._metrics[mode]["margin"].append(margins.mean().item())

    padding = named["processing_class"].convert_tokens_to_ids(named["args"].pad_token)
    return parts.staged(ScoreTrainer)(**named, data_collator=with_tasks(_collator(padding), parts.task_types))


def _spread(train: Any) -> tuple[float, float]:
    import numpy

    scores = train.with_format("numpy")["score"][:]
    mean, deviation = float(numpy.mean(scores)), float(numpy.std(scores))
    if deviation == 0.0:
        raise ProblemError([problem("data_scores_equal", field="data.dataset", score=mean)])
    return mean, deviation


def _collator(padding: int) -> Any:
    import torch
    from torch.nn.utils.rnn import pad_sequence

    def collate(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        ids = [torch.tensor(row["input_ids"]) for row in rows]
        return {
            "input_ids": pad_sequence(ids, batch_first=True, padding_value=padding),
            "attention_mask": pad_sequence([torch.ones_like(one) for one in ids], batch_first=True),
            "score": torch.tensor([row["score"] for row in rows], dtype=torch.float64),
        }

    return collate
