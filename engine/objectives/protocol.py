"""What an objective is: what is learned from which rows. One file an objective, one line in `__init__`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

from engine.specs.base import Spec


class Objective(Protocol):
    """An entry of the catalogue; stateless, torch only inside `trainer`."""

    kind: ClassVar[str]
    Spec: ClassVar[type[Spec]]
    row_kind: ClassVar[str]
    """The canonical rows it takes: `conversation` or `preference`."""
    packs: ClassVar[bool]
    """Whether rows can be packed into shared sequences."""
    curves: ClassVar[Sequence[str]]
    """Names of its metrics beyond loss, learning rate, gradient norm and speed, in the order of their charts."""

    def tokens(self, row: dict[str, Any], renderer: Any, spec: Any, max_length: int) -> list[dict[str, Any]]:
        """Turn one canonical row into zero or more rows of token columns (see `engine/data/render.py`).

        Each has the columns of this objective's dataset, cut to `max_length` tokens.
        """
        ...

    def trainer(self, parts: Any) -> Any:
        """Build the library's trainer from `engine/runtime/parts.py`."""
        ...
