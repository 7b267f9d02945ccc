"""The trainer of objectives that predict tokens: no padding, logits for trained tokens alone, loss per task type.

Child processes only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional
from transformers import Trainer
from transformers.trainer_utils import EvalLoopOutput

from engine.data.rendered import NOT_TRAINED
from engine.models.by_task import TASK_LOSS
from engine.models.like_length import longest_first
from engine.models.rows_apart import ATTENTION, keeps_rows_apart
from engine.models.token_batches import TokenBatches, in_parts
from engine.models.token_loss import weighted_loss

PROBE_TOKENS = 8
AT_ONCE_ON_CPU = 512
"""Tokens of a pass on a CPU, which more of them make hardly faster: 450 at once took 7 % longer than 900, and each that
is computed with others holds 0.7 MB until the gradients are made (SmolLM2-135M, bfloat16)."""


@dataclass(frozen=True, slots=True)
class TokenSettings:
    """What the trainer is told beside the library's arguments."""

    share_sequences: bool
    """Whether rows may share a sequence, as far as the tuner goes; the model must keep them apart as well."""
    longest: int
    """Tokens of the longest row there may be."""
    task_types: Sequence[str] = ()
    dynamic: bool = False
    """Whether each token's loss is scaled by its probability; see `engine/models/token_loss.py`."""
    prompt_weight: float = 1.0
    noise: float | None = None
    """NEFTune's alpha: uniform noise on the embeddings while training (Jain et al. 2023, arXiv 2310.05914)."""
    at_once: int | None = None
    """Most tokens of a batch that are in memory at once: further rows come after them; None: all of the batch."""


class TokenTrainer(Trainer):
    """Trains on rows of `input_ids` and `labels`. The loss is a mean over the trained tokens of a whole step."""

    def __init__(self, *, model: Any, processing_class: Any, tokens: TokenSettings, **named: Any) -> None:
        apart = tokens.share_sequences and keeps_rows_apart(_plain(model), tokens.longest)
        pad_id = processing_class.pad_token_id or 0
        batches = TokenBatches(apart, pad_id, tokens.task_types, tokens.prompt_weight)
        super().__init__(model=model, processing_class=processing_class, data_collator=batches, **named)
        self.loss_is_scaled_for_ga = True
        self._tokens = tokens
        self._apart = apart
        self._has_head: bool | None = None
        self._total_train_tokens = 0
        self._metrics: dict[str, dict[str, list[float]]] = {"train": {}, "eval": {}}

    def groups_rows(self) -> bool:
        """Where rows are padded: those that share a sequence need not be alike."""
        return not self._apart

    def groups_evaluation(self) -> bool:
        return False  # it evaluates by itself

    def _get_eval_sampler(self, eval_dataset: Any) -> Any:
        """The longest rows first where rows are padded: the loss of an evaluation knows of no order."""
        if self._apart:
            return super()._get_eval_sampler(eval_dataset)
        lengths = [len(row) for row in eval_dataset["input_ids"]]
        return longest_first(range(len(lengths)), lengths)

    def _inner_training_loop(self, *positional: Any, **named: Any) -> Any:
        with self._computing():
            return super()._inner_training_loop(*positional, **named)

    @contextmanager
    def _computing(self) -> Iterator[None]:
        """Attention within rows while batches are sequences of them, and no casts that autocast undoes at once."""
        model = _plain(self.model)
        before = model.config._attn_implementation
        model.set_attn_implementation(ATTENTION if self._apart else before)
        try:
            with _without_casts(model if self.args.bf16 else None):
                yield
        finally:
            model.set_attn_implementation(before)

    def _get_num_items_in_batch(self, batch_samples: Sequence[Mapping[str, Any]], device: Any) -> Any:
        """The weight of all trained tokens of a step, which its loss is divided by."""
        total = sum(float(one["weights"][one["labels"] != NOT_TRAINED].sum()) for one in batch_samples)
        return torch.tensor(total, device=device)

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Any:
        """The loss is a sum divided by the weight of the whole step: in how many parts it is summed changes nothing."""
        parts = [inputs] if self._tokens.at_once is None else in_parts(inputs, self._tokens.at_once)
        return sum(super(TokenTrainer, self).training_step(model, part, num_items_in_batch) for part in parts)

    def most_tokens(self, of_longest: Callable[[int], int]) -> int:
        """Tokens that are in memory at once at the most; `of_longest(n)` counts those of the n longest rows."""
        whole = of_longest(self.args.per_device_train_batch_size)
        return whole if self._tokens.at_once is None else min(whole, max(self._tokens.at_once, of_longest(1)))

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        del return_outputs
        self._total_train_tokens += inputs["num_tokens"]
        with self._noise(inputs):
            total, nll, tasks = self._losses(model, inputs, dynamic=self._tokens.dynamic)
        self._add_tasks("train", nll, tasks)
        self._metrics["train"]["num_tokens"] = [self._total_train_tokens]
        return total / num_items_in_batch.clamp(min=1e-9)

    def _losses(self, model: Any, inputs: Mapping[str, Any], *, dynamic: bool) -> tuple[Any, Any, Any]:
        """The weighted sum over the trained tokens, and of each of them its negative log-likelihood and task."""
        labels, weights, tasks = (inputs[name] for name in ("labels", "weights", "tasks"))
        fed = {name: inputs[name] for name in _FED if name in inputs}
        trained = labels[:, 1:] != NOT_TRAINED
        targets, scale = labels[:, 1:][trained], weights[:, 1:][trained]
        with self.accelerator.autocast():
            if self._has_head is None:
                self._has_head = _has_plain_head(_plain(model), fed["input_ids"][:1, :PROBE_TOKENS])
            if self._has_head:
                with _without_head(_plain(model)) as head:
                    hidden = model(**fed, use_cache=False).logits
                states = hidden[:, -labels.shape[1] : -1][trained]
                total, nll = weighted_loss(states, head, targets, scale, dynamic=dynamic)
            else:
                logits = model(**fed, use_cache=False).logits
                chosen = logits[:, -labels.shape[1] : -1][trained].float()
                losses = functional.cross_entropy(chosen, targets, reduction="none")
                nll = losses.detach()
                total = (losses * scale * (torch.exp(-nll) if dynamic else 1.0)).sum()
        return total, nll, tasks[:, 1:][trained]

    @contextmanager
    def _noise(self, inputs: Mapping[str, Any]) -> Iterator[None]:
        """Noise on the embeddings as large for a row as if it stood alone: at most alpha / √(its tokens · width)."""
        alpha = self._tokens.noise
        if alpha is None:
            yield
            return
        size = inputs["row_sizes"]

        def add(_module: Any, _inputs: Any, found: torch.Tensor) -> torch.Tensor:
            most = alpha / torch.sqrt(size * found.shape[-1])[..., None]
            return found + ((2 * torch.rand_like(found) - 1) * most).to(found.dtype)

        handle = _plain(self.model).get_input_embeddings().register_forward_hook(add)
        try:
            yield
        finally:
            handle.remove()

    def _add_tasks(self, mode: str, nll: torch.Tensor, tasks: torch.Tensor) -> None:
        """Add to the sum of the losses and to the number of the tokens of each task type."""
        names = self._tokens.task_types
        if len(names) < 2:
            return
        sums = torch.bincount(tasks, weights=nll.double(), minlength=len(names) + 1).tolist()
        counts = torch.bincount(tasks, minlength=len(names) + 1).tolist()
        for name, added, count in zip(names, sums, counts, strict=False):
            before = self._metrics[mode].get(TASK_LOSS + name, [0.0, 0.0])
            self._metrics[mode][TASK_LOSS + name] = [before[0] + added, before[1] + count]

    def _told(self, mode: str) -> dict[str, float]:
        """The figures since they were told last."""
        found = self._metrics[mode]
        self._metrics[mode] = {}
        per_task = {n: v[0] / v[1] for n, v in found.items() if n.startswith(TASK_LOSS) and v[1]}
        return {**{n: v[0] for n, v in found.items() if not n.startswith(TASK_LOSS)}, **per_task}

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        super().log({**logs, **(self._told("train") if "loss" in logs else {})}, start_time)

    def evaluation_loop(
        self,
        dataloader: Any,
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: Any = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """The mean over all trained tokens, however they fall into batches."""
        del description, prediction_loss_only, ignore_keys
        self.model.eval()
        if hasattr(self.optimizer, "eval"):  # some optimisers keep other weights for it
            self.optimizer.eval()
        total = weight = 0.0
        with torch.no_grad(), self._computing():
            for batch in dataloader:
                inputs = self._prepare_inputs(batch)
                summed, nll, tasks = self._losses(self.model, inputs, dynamic=False)
                self._add_tasks("eval", nll, tasks)
                total += float(summed)
                weight += float(self._get_num_items_in_batch([inputs], nll.device))
                self.callback_handler.on_prediction_step(self.args, self.state, self.control)
        found = {"loss": total / weight, **self._told("eval")} if weight else {}
        return EvalLoopOutput(
            predictions=None,
            label_ids=None,
            metrics={f"{metric_key_prefix}_{name}": value for name, value in found.items()},
            num_samples=len(dataloader.dataset),
        )


_FED = ("input_ids", "attention_mask", "position_ids", "row_lengths")
"""What of a batch the model is given."""


def _plain(model: Any) -> Any:
    """The library's model below an adapter's wrapper."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


@contextmanager
def _without_casts(model: Any) -> Iterator[None]:
    """The layers of an adapter take inputs as they come; the library's own way to this fails on trained tokens."""
    layers = [one for one in model.modules() if getattr(one, "cast_input_dtype_enabled", False)] if model else []
    try:
        for layer in layers:
            layer.cast_input_dtype_enabled = False
        yield
    finally:
        for layer in layers:
            layer.cast_input_dtype_enabled = True


@contextmanager
def _without_head(model: Any) -> Iterator[Any]:
    """The model gives its last hidden states in the place of logits; yields its output layer."""
    head = model.get_output_embeddings()
    model.set_output_embeddings(torch.nn.Identity())
    try:
        yield head
    finally:
        model.set_output_embeddings(head)


def _has_plain_head(model: Any, ids: torch.Tensor) -> bool:
    """Whether the logits are the output layer on the hidden states and nothing more: no cap, no scale, no adapter."""
    if type(model.get_output_embeddings()) is not torch.nn.Linear:
        return False
    positions = torch.arange(ids.shape[1], device=ids.device)[None]
    fed: dict[str, Any] = {"input_ids": ids, "position_ids": positions, "row_lengths": [ids.shape[1]]}
    was_training = model.training
    model.eval()
    with torch.no_grad():
        logits = model(**fed, use_cache=False).logits
        with _without_head(model) as head:
            hidden = model(**fed, use_cache=False).logits
        same = hidden.shape[-1] == head.in_features and torch.equal(head(hidden), logits)
    model.train(was_training)
    return bool(same)
