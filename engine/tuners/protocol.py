"""What a tuner is: which weights move. One file a tuner, one line in `__init__`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

from engine.specs.base import Spec


class Tuner(Protocol):
    """An entry of the catalogue; stateless, torch only inside `prepare`."""

    kind: ClassVar[str]
    Spec: ClassVar[type[Spec]]
    quantizations: ClassVar[Sequence[str]]
    """The forms of the base it can train on."""
    is_adapter: ClassVar[bool]
    """Whether its checkpoints hold an adapter (true) or whole weights (false)."""

    def prepare(self, model: Any, spec: Any) -> Any:
        """Return the model with exactly the weights trainable that this tuner moves."""
        ...

    def trainable(self, spec: Any, facts: dict[str, Any]) -> int:
        """Number of weights that move, from the model's facts alone."""
        ...
