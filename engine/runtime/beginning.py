"""Between loading and the first step: a resumed trainer is proved to be where it stopped, and the memory is tried."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy
import psutil
import torch
from transformers import TrainerCallback

from engine.data.tokens import token_columns
from engine.runtime import carried
from engine.runtime.averaging import is_raw, trained
from engine.runtime.child import Refused
from engine.runtime.watching import Watch

_MOST_ACTIVATION_BYTES = 200
"""More than what is kept of a token in float32, for each layer and each number of its width."""
_MOST_LOGIT_BYTES = 16
"""A token's logits, their probabilities and the gradients of both, in float32."""
_MOST_TRAINED_BYTES = 16
"""A trained weight's gradient, the optimiser's two averages, and what a step works in."""


class Beginning(TrainerCallback):
    """Runs once, when the library has put model, optimiser and checkpoint in place."""

    def __init__(self, trainer: Any, watch: Watch, resume: Path | None, phase: Callable[[str], None]) -> None:
        self._trainer, self._watch, self._resume, self._phase = trainer, watch, resume, phase

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        trainer = self._trainer
        if self._resume is not None:
            sums = carried.read(self._resume)
            if sums is not None:
                carried.put_back(trainer, sums)
                self._watch.tokens = sums["tokens"]
            trainer.take_beside(self._resume)
            check_resumed(trainer, self._resume, (sums or carried.carried(trainer))["batch_size"])
        if not is_ample(trainer, psutil.virtual_memory().available):
            self._phase("trying")
            try_longest(trainer)
        self._phase("training")


def check_resumed(trainer: Any, folder: Path, batch_size: int) -> None:
    """Compare what was loaded with the checkpoint: weights, optimiser, learning rate and place in the data.

    `batch_size` is that of the attempt that wrote it.

    Raises:
        Refused: something is not where the checkpoint left it; to train on would be to guess.
    """
    step = trainer.state.global_step
    own = step - trainer.tuning.began_at  # the steps of this phase, which optimiser and schedule count
    rate = trainer.lr_scheduler.get_last_lr()[0]
    differs = {
        "weights": not trainer.takes_over() and not _weights_are_those_of(trainer, folder),
        "dtype": any(p.dtype != torch.float32 for p in trainer.model.parameters() if p.requires_grad),
        "optimizer": not trainer.takes_over() and not _optimizer_is_at(trainer, own),
        "schedule": trainer.lr_scheduler.last_epoch != own or trainer.optimizer.param_groups[0]["lr"] != rate,
        "position": abs(trainer.state.epoch - trainer.epoch_at(step, batch_size)) > 1e-6,
    }
    if any(differs.values()):
        what = ", ".join(name for name, does in differs.items() if does)
        raise Refused("resume_differs", {"step": step, "what": what}, {})


def _optimizer_is_at(trainer: Any, step: int) -> bool:
    """Whether the optimiser has counted as many steps; one that keeps nothing of a weight has nothing to compare."""
    steps = [int(one["step"]) for one in trainer.optimizer.state.values() if "step" in one]
    return max(steps) == step if steps else not trainer.optimising.entry.state_bytes


def _weights_are_those_of(trainer: Any, folder: Path) -> bool:
    """Whether every stored weight that is trained is loaded to the last bit, and its average where one is kept."""
    with trainer.shown():
        published = _published_are_those_of(trainer, folder)
    return published and (trainer.average is None or is_raw(trainer.model, folder))


def _published_are_those_of(trainer: Any, folder: Path) -> bool:
    from safetensors import safe_open

    loaded = trainer.tuning.stored(trainer.model)
    compared = 0
    for path in folder.glob("*.safetensors"):
        with safe_open(str(path), framework="pt") as stored:
            for name in stored.keys():  # noqa: SIM118 - the file is no mapping
                if name not in loaded:
                    continue
                compared += 1
                kept, here = stored.get_tensor(name), loaded[name].detach().cpu()
                if kept.dtype != here.dtype or not torch.equal(kept, here):
                    return False
    return compared > 0


def is_ample(trainer: Any, available_bytes: int) -> bool:
    """Whether twice what the longest rows could ever take is free, so that trying them would only cost time.

    Of a GPU, whose memory is scarcer and shared, this is never taken for granted.
    """
    if trainer.args.device.type != "cpu":
        return False
    rows = trainer.train_dataset
    tokens = trainer.most_tokens(lambda number: int(_totals(rows.select(longest(rows, number))).sum()))
    config = trainer.model.config.get_text_config()
    activations = config.num_hidden_layers * config.hidden_size * _MOST_ACTIVATION_BYTES
    logits = config.vocab_size * _MOST_LOGIT_BYTES
    count = sum(weight.numel() for weight in trained(trainer.model).values())
    return bool(available_bytes > 2 * (tokens * (activations + logits) + _MOST_TRAINED_BYTES * count))


def try_longest(trainer: Any) -> None:
    """One forward and backward pass on the longest rows, with the room that the optimiser will take.

    Nothing of it stays: memory that is not enough shows now, and the run goes on as if this had not been.
    """
    sums, model = carried.carried(trainer), trainer.model_wrapped
    device = trainer.args.device
    with random_state_kept():
        room = _optimizer_room(trainer, device)
        trainer.current_gradient_accumulation_steps = trainer.args.gradient_accumulation_steps
        trainer.try_rows(lambda number: trainer.train_dataset.select(longest(trainer.train_dataset, number)))
        del room
    model.zero_grad()
    carried.put_back(trainer, sums)


def _optimizer_room(trainer: Any, device: Any) -> torch.Tensor | None:
    """Memory as large as what the optimiser keeps from its first step on; none where it has it already."""
    size = trainer.optimising.kept_bytes(trained(trainer.model))
    if trainer.optimizer.state or not size:
        return None
    return torch.ones(size, dtype=torch.uint8, device=device)  # written: the pages are really taken


def longest(dataset: Any, number: int) -> list[int]:
    """The places of the rows with the most tokens in all their columns, longest first."""
    return [int(place) for place in numpy.argsort(-_totals(dataset), kind="stable")[:number]]


def _totals(dataset: Any) -> Any:
    """The tokens of each row in all its columns."""
    import pyarrow.compute as compute

    table = dataset.with_format("arrow")[:]
    names = token_columns([name for name in table.column_names if "list" in str(table[name].type)])
    return numpy.sum([compute.list_value_length(table[name]).to_numpy() for name in names], axis=0)


@contextmanager
def random_state_kept() -> Iterator[None]:
    """Leave every source of random numbers as it was found."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    kept = random.getstate(), numpy.random.get_state(), torch.random.get_rng_state()
    try:
        yield
    finally:
        random.setstate(kept[0])
        numpy.random.set_state(kept[1])
        torch.random.set_rng_state(kept[2])
        if cuda:
            torch.cuda.set_rng_state_all(cuda)
