"""What a tuner does inside the library's training loop, and what of it a checkpoint holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from engine.tuners.protocol import Paced, Restoring, Tuner


@dataclass(frozen=True, slots=True)
class Tuning:
    """The tuner of a trainer, and the step that it takes over at."""

    tuner: Tuner
    began_at: int = 0
    """The last step of the phase before it; 0 in a run with one phase."""

    def add_penalty(self, model: Any) -> None:
        """Add the gradient of what the tuner itself wants to the one of the rows."""
        if isinstance(self.tuner, Paced):
            self.tuner.penalty(model).backward()

    def callbacks(self, model: Any) -> list[TrainerCallback]:
        return [_Pace(self.tuner, model)] if isinstance(self.tuner, Paced) else []

    def store(self, model: Any, folder: Path) -> None:
        if isinstance(self.tuner, Restoring):
            self.tuner.store(model, folder)

    def restore(self, model: Any, folder: Path, load: Callable[[], None]) -> None:
        """Take up what a checkpoint holds; `load` is the library's way."""
        if isinstance(self.tuner, Restoring):
            self.tuner.restore(model, folder, load)
        else:
            load()

    def stored(self, model: Any) -> Mapping[str, Any]:
        """Every weight of the model that its checkpoint holds, by its name there."""
        from peft import PeftModel, get_peft_model_state_dict

        found = get_peft_model_state_dict(model) if isinstance(model, PeftModel) else model.state_dict()
        return {**found, **(self.tuner.stored(model) if isinstance(self.tuner, Restoring) else {})}


class _Pace(TrainerCallback):
    """Tells the tuner of each step of the optimiser."""

    def __init__(self, tuner: Paced, model: Any) -> None:
        self._tuner, self._model = tuner, model

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        with torch.no_grad():
            self._tuner.after_step(self._model, state.global_step + 1)
