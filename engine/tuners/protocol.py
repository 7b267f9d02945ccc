"""What a tuner is: which weights move. One file a tuner, one line in `__init__`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from engine.specs.base import EntrySpec


class Tuner(Protocol):
    """An entry of the catalogue; stateless, torch only inside `prepare`. Implementations set class attributes."""

    @property
    def kind(self) -> str: ...

    @property
    def Spec(self) -> type[EntrySpec]:
        """Its own section of a run's spec."""
        ...

    @property
    def quantizations(self) -> Sequence[str]:
        """The forms of the base it can train on."""
        ...

    @property
    def is_adapter(self) -> bool:
        """Whether its checkpoints hold an adapter (true) or whole weights (false)."""
        ...

    def prepare(self, model: Any, spec: Any) -> Any:
        """Return the model with exactly the weights trainable that this tuner moves."""
        ...

    def trainable(self, spec: Any, facts: dict[str, Any]) -> int:
        """Number of weights that move, from the model's facts alone."""
        ...
