"""What an objective is: what is learned from which rows. One file an objective, one line in `__init__`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from engine.specs.base import EntrySpec


class Objective(Protocol):
    """An entry of the catalogue; stateless, torch only inside `trainer`. Implementations set class attributes."""

    @property
    def kind(self) -> str: ...

    @property
    def Spec(self) -> type[EntrySpec]:
        """Its own section of a run's spec."""
        ...

    @property
    def row_kind(self) -> str:
        """The canonical rows it takes: `conversation`, `preference` or `text`."""
        ...

    @property
    def packs(self) -> bool:
        """Whether a row is one sequence, so that rows can share one and a long row can become several."""
        ...

    @property
    def curves(self) -> Sequence[str]:
        """Names of its metrics beyond loss, learning rate, gradient norm and speed, in the order of their charts."""
        ...

    def tokens(self, row: dict[str, Any], renderer: Any, spec: Any, room: Any) -> Sequence[dict[str, Any]]:
        """Turn one canonical row into zero or more rows of token columns (see `engine/data/render.py`).

        Each has the columns of this objective's dataset, and fits into the `Room` of `engine/data/room.py`.
        """
        ...

    def trainer(self, parts: Any) -> Any:
        """Build the library's trainer from the `TrainerParts` of `engine/runtime/parts.py`."""
        ...
