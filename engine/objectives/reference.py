"""The start of a run as the reference of its objective: asked again at each step, or computed once and kept."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Any

from engine.objectives.kept import kept, key_of, weights_hash

SAME = 1e-3
"""Log-probabilities of a row that differ by less are those of the same model."""


def with_reference(base: type, columns: Sequence[str], parts: Any) -> type:
    """TRL's trainer `base`, which compares with the run's start whatever the tuner is.

    TRL takes a copy of the adapter for that, made with its own initialisation: one that moves part of the base into
    the adapter would move it twice. Here the adapter is switched off where that gives the start, and copied as it is
    where it does not. `columns` are those of the figures that are kept where `reference` is `cached`: computed from the
    model as it starts, also by an attempt that goes on, since its checkpoint is loaded after the trainer is made.
    """
    import torch

    from engine.models.like_length import longest_first, padded_lengths

    class Nobody(torch.nn.Module):
        """Stands where TRL would make a reference of its own."""

        def __init__(self, config: Any) -> None:
            super().__init__()
            self.config = config

        def forward(self, **named: Any) -> Any:
            raise NotImplementedError

    class Referring(base):
        def __init__(self, **named: Any) -> None:
            is_adapter = hasattr(named["model"], "peft_config")
            is_cached = named["args"].precompute_ref_log_probs
            if is_adapter or is_cached:
                named["ref_model"] = Nobody(named["model"].config)
            super().__init__(**named)
            if is_adapter or is_cached:
                self.ref_model = None
            if is_cached:
                self._keep_reference()
            elif is_adapter and not _is_base_the_start(self, parts):
                _copy_adapter(self.model)

        def _precompute_ref_logps(self, dataset: Any, *arguments: Any) -> Any:
            del arguments  # done when the trainer is whole
            return dataset

        def _keep_reference(self) -> None:
            depends_on = {
                "start": weights_hash(self.model),
                "bf16": self.args.bf16,
                "device": self.args.device.type,
                "off": _goes_without(self.model, parts),
            }
            for name in ("train_dataset", "eval_dataset"):
                if (dataset := getattr(self, name)) is not None:
                    setattr(self, name, self._with_figures(dataset, depends_on))

        def _with_figures(self, dataset: Any, depends_on: dict[str, Any]) -> Any:
            key = key_of(dataset, columns, depends_on)
            found = kept(parts.cache, key, columns, len(dataset), lambda: self._figures(dataset))
            for name, values in found.items():
                dataset = dataset.add_column(name, values)
            return dataset

        def _figures(self, dataset: Any) -> dict[str, Any]:
            """Log-probabilities of each row, computed with rows of like length; callbacks hear of each batch."""
            rows, size = self._remove_unused_columns(dataset), self.args.per_device_eval_batch_size
            order, made = longest_first(range(len(rows)), padded_lengths(rows)), []
            for first in range(0, len(rows), size):
                batch = self.data_collator([rows[place] for place in order[first : first + size]])
                made.append([one.float().cpu() for one in start_log_probs(self, batch, parts) if one is not None])
                self.callback_handler.on_prediction_step(self.args, self.state, self.control)
            back = torch.tensor(order).argsort()
            return {
                name: torch.cat(each)[back].numpy() for name, each in zip(columns, zip(*made, strict=True), strict=True)
            }

    return Referring


def start_log_probs(trainer: Any, batch: dict[str, Any], parts: Any) -> Any:
    """TRL's reference log-probabilities of a batch, by the model as it starts."""
    model = trainer.model
    was_training = model.training
    model.eval()
    if not _goes_without(model, parts):
        trainer.ref_model = model  # as it is: its adapter stays on
    try:
        return trainer.compute_ref_log_probs(model, trainer._prepare_inputs(batch))
    finally:
        trainer.ref_model = None
        model.train(was_training)


def _goes_without(model: Any, parts: Any) -> bool:
    """Whether the start is the base alone: virtual tokens that are new say nothing yet, and disturb."""
    config = getattr(model, "peft_config", {}).get("default")
    return config is not None and config.is_prompt_learning and not parts.goes_on


def _is_base_the_start(trainer: Any, parts: Any) -> bool:
    """Whether the model without its adapter answers as it starts; looked at on one row."""
    if _goes_without(trainer.model, parts):
        return True
    rows = trainer._remove_unused_columns(trainer.train_dataset)
    batch = trainer.data_collator([rows[0]])
    started = start_log_probs(trainer, batch, parts)
    without = trainer.compute_ref_log_probs(trainer.model, trainer._prepare_inputs(batch))
    pairs = [(one, other) for one, other in zip(started, without, strict=True) if one is not None]
    return all(bool(((one - other).abs() < SAME).all()) for one, other in pairs)


def _copy_adapter(model: Any) -> None:
    """Put the adapter as it is beside itself as `ref`, which TRL then asks; it is never trained nor saved."""
    config = copy(model.peft_config["default"])
    config.inference_mode = True
    if hasattr(config, "init_lora_weights"):
        config.init_lora_weights = True
    model.add_adapter("ref", config)
    weights = dict(model.named_parameters())
    for name, weight in weights.items():
        if ".default." in name:
            weights[name.replace(".default.", ".ref.")].data.copy_(weight.data)
