"""The seam to the library's trainer: its saves become our checkpoints, and what it loads is checked."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch.optim.lr_scheduler import LambdaLR
from transformers import EarlyStoppingCallback, Trainer, TrainerState
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_callback import ExportableState

from engine.runtime import carried
from engine.runtime.averaging import Average, read_raw, shown, trained, write_raw
from engine.runtime.batching import Batching
from engine.runtime.child import NonFinite
from engine.runtime.optimising import Optimising
from engine.runtime.tuning import Tuning
from engine.runtime.usual import Usual

if TYPE_CHECKING:
    from transformers import Trainer as Library
else:
    Library = object

Save = Callable[[int, Callable[[Path], None]], None]
"""Publishes the checkpoint of a step that the given function writes into a folder."""


def staged(save: Save, tuning: Tuning, how: Optimising, task_types: Sequence[str] = ()) -> Callable[[type], type]:
    """Wrap a trainer class: each save goes through `save`, its optimiser is made by `how`, the tuner has its say, and
    the losses of `task_types` are told apart."""
    ours = {"publish": staticmethod(save), "tuning": tuning, "optimising": how, "task_types": task_types}

    def wrap(base: type) -> type:
        return type(f"Staged{base.__name__}", (Staged, Batching, base, Usual), ours)

    return wrap


class Staged(Library):
    """What stands before a trainer of the library: our checkpoints and optimisers; adapters stay in float32."""

    publish: Save
    tuning: Tuning
    optimising: Optimising
    average: Average | None = None
    optimizer: Any
    lr_scheduler: Any

    def __init__(self, *positional: Any, **arguments: Any) -> None:
        super().__init__(*positional, **arguments)
        # The library starts an adapter on a quantised base in bfloat16 and resumes it in float32: one format
        # for both keeps a resumed run equal to an uninterrupted one, and small updates are not rounded away.
        for weight in self.model.parameters():
            if weight.requires_grad:
                weight.data = weight.data.float()
        _complete_reference(self.model)
        for callback in self.tuning.callbacks(self.model):
            self.add_callback(callback)

    def takes_over(self) -> bool:
        """Whether this is the first step of a phase: what lies before it was trained by another tuner."""
        return bool(0 < self.tuning.began_at == self.state.global_step)

    def training_step(self, *positional: Any, **named: Any) -> Any:
        loss = super().training_step(*positional, **named)
        if self.accelerator.sync_gradients:
            self.tuning.add_penalty(self.model)
        return loss

    def _load_from_checkpoint(self, folder: str, *positional: Any, **named: Any) -> None:
        step = TrainerState.load_from_json(str(Path(folder) / TRAINER_STATE_NAME)).global_step
        if step != self.tuning.began_at:
            load = partial(super()._load_from_checkpoint, folder, *positional, **named)
            self.tuning.restore(self.model, Path(folder), load)

    def checkpoint_bytes(self) -> int:
        """About the size of a checkpoint: each trained weight in float32 and what is kept for it."""
        averaged = self.optimising.training.ema_decay is not None or self.optimising.entry.averages
        weights = trained(self.model)
        count = sum(weight.numel() for weight in weights.values())
        return (8 if averaged else 4) * count + self.optimising.kept_bytes(weights)

    def create_optimizer(self, model: Any = None) -> Any:
        if self.optimizer is None:
            self.optimizer_cls_and_kwargs = self.optimising.optimizer_of(self)
            self.optimizer = super().create_optimizer(model)
            self.average = self.optimising.average_of(self)
            self.optimizer.register_step_post_hook(self._take_in)
        return self.optimizer

    def _take_in(self, *_: Any) -> None:
        if self.average is not None:
            self.average.after_step(self.state.global_step + 1 - self.tuning.began_at)

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        if self.lr_scheduler is None:
            self.lr_scheduler = LambdaLR(
                optimizer or self.optimizer, self.optimising.share(num_training_steps - self.tuning.began_at)
            )
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def shown(self) -> AbstractContextManager[None]:
        """The model with the weights that are published: the average, where one is kept."""
        return shown(self.model, self.average)

    def evaluate(self, *positional: Any, **named: Any) -> Any:
        with self.shown():
            return super().evaluate(*positional, **named)

    def _load_optimizer_and_scheduler(self, folder: str | None) -> None:
        kept = None if self.takes_over() else folder
        super()._load_optimizer_and_scheduler(kept)
        if kept is not None and self.average is not None:
            self.average.take_up()
            read_raw(self.model, Path(kept))

    def take_up(self, folder: Path) -> None:
        """Load the weights and the state of a checkpoint without training on."""
        self._load_from_checkpoint(str(folder))
        self.state = TrainerState.load_from_json(str(folder / TRAINER_STATE_NAME))

    def take_weights(self, folder: Path) -> None:
        """Load what a checkpoint publishes, for what is measured after the last step."""
        self._load_from_checkpoint(str(folder))
        self.average = None

    def has_stopped_early(self, folder: Path) -> bool:
        """Whether the run that wrote this checkpoint had ended by itself there."""
        state = TrainerState.load_from_json(str(folder / TRAINER_STATE_NAME))
        kept = state.stateful_callbacks.get(EarlyStoppingCallback.__name__)
        if kept is None or not any(isinstance(one, EarlyStoppingCallback) for one in self._callbacks()):
            return False
        counted = kept["attributes"]["early_stopping_patience_counter"]
        return bool(counted >= kept["args"]["early_stopping_patience"])

    def _callbacks(self) -> list[Any]:
        return list(self.callback_handler.callbacks)

    def _load_callback_state(self) -> None:
        """Give each callback its state back in its place: the library would put it last, behind our own."""
        for callback in self._callbacks():
            kept = self.state.stateful_callbacks.get(type(callback).__name__)
            if isinstance(callback, ExportableState) and kept is not None:
                for name, value in kept["attributes"].items():
                    setattr(callback, name, value)

    def _get_output_dir(self, trial: Any) -> str:
        del trial
        return str(Path(self.args.output_dir) / ".library")

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        step = self.state.global_step
        if not all(weight.isfinite().all() for weight in self.model.parameters() if weight.requires_grad):
            raise NonFinite(step, "weights")

        def write(folder: Path) -> None:
            library = Path(self._get_output_dir(trial))
            try:
                with self.shown():
                    Trainer._save_checkpoint(self, model, trial)  # the subclass's adds a card of its own
                for path in list((library / f"checkpoint-{step}").iterdir()):
                    if path.name not in _UNWANTED:
                        path.rename(folder / path.name)
                with self.shown():
                    self.tuning.store(self.model, folder)
                carried.write(self, folder)
                self.keep_beside(folder)
                if self.average is not None:
                    write_raw(self.model, folder)
            finally:
                shutil.rmtree(library, ignore_errors=True)

        self.publish(step, write)


def _complete_reference(model: Any) -> None:
    """Give TRL's frozen reference adapter all weights of the start: it leaves out those named by the adapter alone."""
    if "ref" in getattr(model, "peft_config", {}):
        for name, weight in model.named_parameters():
            if name.endswith(".default"):
                model.get_parameter(f"{name.removesuffix('default')}ref").data.copy_(weight.data)


_UNWANTED = {"training_args.bin", "README.md", "ref"}
"""A pickle, a card that names paths, and the frozen reference adapter, which the start gives back."""
