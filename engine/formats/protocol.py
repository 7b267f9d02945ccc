"""What a dataset format is: one common shape of rows, turned into canonical rows. One file a format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol

from engine.specs.problem import Problem

Raw = Mapping[str, Any]
Row = dict[str, Any]
"""A canonical row: `messages` or `prompt`, `chosen` and `rejected` (lists of messages), and `split`."""


class Format(Protocol):
    """An entry of the catalogue; stateless, torch-free."""

    kind: ClassVar[str]
    row_kind: ClassVar[str]
    """`conversation` or `preference`."""
    roles: ClassVar[Mapping[str, Sequence[str]]]
    """What columns are used for → the names under which such a column is found."""
    required: ClassVar[Sequence[str]]
    """The roles without which a row cannot be read."""

    def recognise(self, sample: Sequence[Raw]) -> float:
        """How surely (0 to 1) these rows have this shape."""
        ...

    def mapping(self, sample: Sequence[Raw]) -> dict[str, str]:
        """Role → column, as found in these rows."""
        ...

    def convert(self, raw: Raw, mapping: Mapping[str, str], line: int) -> Row | list[Problem]:
        """One row in canonical form, or what is wrong with it."""
        ...
