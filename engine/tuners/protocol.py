"""What a tuner is: which weights move. One file a tuner, one line in `__init__`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from engine.specs.base import EntrySpec


@dataclass(frozen=True, slots=True)
class Given:
    """What a tuner is told of the run beside its own settings."""

    task: str
    """PEFT's name of the model's task: `CAUSAL_LM` or `SEQ_CLS`."""
    total_steps: int
    train: Any
    """The training rows of tokens, for what is initialised from data."""
    tokenizer: Any
    quantization: str


class Tuner(Protocol):
    """An entry of the catalogue; stateless, torch only inside `prepare`. Implementations set class attributes."""

    @property
    def kind(self) -> str: ...

    @property
    def Spec(self) -> type[EntrySpec]:
        """Its own section of a run's spec."""
        ...

    @property
    def refuses(self) -> Mapping[str, str]:
        """The quantised forms of the base that it cannot train on, each with its reason: `tuner_refuses.REASON`."""
        ...

    @property
    def merges(self) -> bool:
        """Whether what it trained can be folded into the base's weights, so that a plain model behaves the same."""
        ...

    @property
    def packs(self) -> bool:
        """Whether several rows can share a sequence under it."""
        ...

    @property
    def rate_factor(self) -> float:
        """Its usual learning rate as a multiple of that of full fine-tuning."""
        ...

    @property
    def is_adapter(self) -> bool:
        """Whether its checkpoints hold an adapter (true) or whole weights (false)."""
        ...

    def prepare(self, model: Any, spec: Any, given: Given) -> Any:
        """Return the model with exactly the weights trainable that this tuner moves."""
        ...

    def trainable(self, spec: Any, facts: dict[str, Any]) -> int:
        """Number of weights that move, from the model's facts alone."""
        ...
