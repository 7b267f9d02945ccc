"""The trainer of objectives that learn from pairs without a reference: one model, one pass over both answers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Sides:
    """Of each pair of a batch the summed log-probabilities of both answers, and the tokens of each. Torch tensors."""

    chosen: Any
    rejected: Any
    chosen_tokens: Any
    rejected_tokens: Any

    @property
    def chosen_mean(self) -> Any:
        return self.chosen / self.chosen_tokens

    @property
    def rejected_mean(self) -> Any:
        return self.rejected / self.rejected_tokens


@dataclass(frozen=True, slots=True)
class Judged:
    """The loss of each pair, what counts as the reward of each answer, and further figures for the curves."""

    losses: Any
    chosen: Any
    rejected: Any
    figures: dict[str, Any]


def pair_trainer(parts: Any, judge: Callable[[Sides], Judged]) -> Any:
    """Build a trainer on `prompt_ids`, `chosen_ids` and `rejected_ids`; the loss is the mean of what `judge` finds."""
    import torch
    from transformers import Trainer, TrainingArguments
    from trl.trainer.dpo_trainer import DataCollatorForPreference
    from trl.trainer.utils import add_fused_lm_head

    from engine.data.tokens import TASK_TYPE
    from engine.models.by_task import add_by_task, with_tasks

    class PairTrainer(Trainer):
        loss_is_scaled_for_ga = False

        def __init__(self, **named: Any) -> None:
            super().__init__(**named)
            self._metrics: dict[str, Any] = {"train": defaultdict(list), "eval": defaultdict(list)}
            self._total_train_tokens = 0
            model: Any = self.model
            add_fused_lm_head(model.get_base_model() if hasattr(model, "peft_config") else model)

        def _set_signature_columns_if_needed(self) -> None:
            self._signature_columns = ["prompt_ids", "chosen_ids", "rejected_ids", TASK_TYPE]

        def compute_loss(
            self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            del return_outputs, num_items_in_batch
            judged = judge(_sides(model, inputs))
            self._note(judged, inputs)
            return judged.losses.mean()

        def _note(self, judged: Judged, inputs: dict[str, Any]) -> None:
            mode = "train" if self.model.training else "eval"
            if mode == "train":
                self._total_train_tokens += int(inputs["attention_mask"].sum())
                add_by_task(self._metrics["train"], judged.losses, inputs["tasks"], self.task_types)
            figures = {
                "rewards/chosen": judged.chosen,
                "rewards/rejected": judged.rejected,
                "rewards/margins": judged.chosen - judged.rejected,
                "rewards/accuracies": (judged.chosen > judged.rejected).float(),
                **judged.figures,
            }
            for name, values in figures.items():
                self._metrics[mode][name].append(values.detach().float().mean().item())
            self._metrics[mode]["num_tokens"] = [self._total_train_tokens]

        def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
            mode, prefix = ("train", "") if self.model.training else ("eval", "eval_")
            # into the very dict: the library's evaluation returns it
            logs.update({f"{prefix}{name}": sum(each) / len(each) for name, each in self._metrics[mode].items()})
            super().log(logs, start_time)
            self._metrics[mode].clear()

        def prediction_step(
            self, model: Any, inputs: Any, prediction_loss_only: bool, ignore_keys: list[str] | None = None
        ) -> tuple[Any, None, None]:
            del prediction_loss_only, ignore_keys
            with torch.no_grad(), self.compute_loss_context_manager():
                return self.compute_loss(model, self._prepare_inputs(inputs)).detach(), None, None

    tokenizer = parts.common["processing_class"]
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    if parts.arguments["gradient_checkpointing"] and hasattr(parts.model, "peft_config"):
        parts.model.enable_input_require_grads()
    return parts.staged(PairTrainer)(
        model=parts.model,
        args=TrainingArguments(**parts.arguments),
        data_collator=with_tasks(DataCollatorForPreference(pad_token_id=tokenizer.pad_token_id), parts.task_types),
        **parts.common,
    )


def _sides(model: Any, inputs: dict[str, Any]) -> Sides:
    """Log-probabilities of the answers' tokens, chosen ones first in the batch; the prompt's do not count."""
    answers = inputs["completion_mask"][:, 1:]
    labels = inputs["input_ids"].masked_fill(inputs["completion_mask"] == 0, -100)
    named = {name: inputs[name] for name in ("input_ids", "attention_mask")}
    found = model(**named, labels=labels, fused_lm_head=True, use_cache=False).log_probs
    found = found[:, -answers.shape[1] :]  # without virtual tokens before the row
    chosen, rejected = (found * answers).sum(dim=1).chunk(2)
    chosen_tokens, rejected_tokens = answers.sum(dim=1).chunk(2)
    return Sides(chosen, rejected, chosen_tokens, rejected_tokens)
