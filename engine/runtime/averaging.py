"""An average of the weights that is published in their place: evaluated, saved for use and exported."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

RAW = "raw"
"""The folder within a checkpoint that holds the weights themselves: a run goes on from them, nothing else does."""
FILE = "weights.safetensors"


class Average(Protocol):
    """What stands in for the trained weights."""

    def published(self) -> list[Tensor]:
        """In the order of the trained weights."""
        ...

    def after_step(self, step: int) -> None:
        """Take in the weights as they are after an optimiser step, counted from 1."""
        ...

    def take_up(self) -> None:
        """Go on from the published weights, which lie in the model now."""
        ...


def trained(model: nn.Module) -> dict[str, nn.Parameter]:
    """The trained weights by name."""
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}


class Ema:
    """The exponential moving average.

    In the first steps the decay is (1 + step) / (10 + step) where that is less: an average of few steps is not held
    back by the start.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._model, self._decay = model, decay
        self.take_up()

    def published(self) -> list[Tensor]:
        return self._kept

    @torch.no_grad()
    def after_step(self, step: int) -> None:
        keep = min(self._decay, (1 + step) / (10 + step))
        for kept, weight in zip(self._kept, trained(self._model).values(), strict=True):
            kept.lerp_(weight, 1.0 - keep)

    def take_up(self) -> None:
        self._kept = [weight.detach().clone() for weight in trained(self._model).values()]


class OfOptimizer:
    """The average that an optimiser keeps itself."""

    def __init__(self, model: nn.Module, optimizer: Any) -> None:
        self._model, self._optimizer = model, optimizer

    def published(self) -> list[Tensor]:
        rule = getattr(self._optimizer, "optimizer", self._optimizer)  # accelerate wraps it when training begins
        return [rule.published(weight) for weight in trained(self._model).values()]

    def after_step(self, step: int) -> None:
        """The optimiser has it already."""

    def take_up(self) -> None:
        """The optimiser's state has what it needs."""


@contextmanager
def shown(model: nn.Module, average: Average | None) -> Iterator[None]:
    """Put the published weights into the model for a while; without an average they are its own."""
    if average is None:
        yield
        return
    weights = list(trained(model).values())
    raw = [weight.data for weight in weights]
    for weight, instead in zip(weights, average.published(), strict=True):
        weight.data = instead
    try:
        yield
    finally:
        for weight, own in zip(weights, raw, strict=True):
            weight.data = own


def write_raw(model: nn.Module, folder: Path) -> None:
    """Write the weights themselves into a checkpoint that is being made."""
    from safetensors.torch import save_file

    (folder / RAW).mkdir()
    save_file({name: weight.detach().cpu() for name, weight in trained(model).items()}, str(folder / RAW / FILE))


def read_raw(model: nn.Module, folder: Path) -> None:
    """Put the weights themselves back."""
    from safetensors.torch import load_file

    for name, kept in load_file(str(folder / RAW / FILE)).items():
        weight = trained(model)[name]
        weight.data.copy_(kept)


def is_raw(model: nn.Module, folder: Path) -> bool:
    """Whether every trained weight is the checkpoint's own, to the last bit."""
    from safetensors.torch import load_file

    kept = load_file(str(folder / RAW / FILE))
    here = trained(model)
    return kept.keys() == here.keys() and all(torch.equal(here[name].detach().cpu(), kept[name]) for name in kept)
