"""What a dataset format is: one common shape of rows, turned into canonical rows. One file a format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from engine.formats.columns import Columns
from engine.specs.problem import Problem

Raw = Mapping[str, Any]
Row = dict[str, Any]
"""A canonical row, without what every format shares (see `engine/formats/columns.py`): by kind of row

- `conversation`: `messages`, and `tools` (the tools' definitions as JSON) where it has any;
- `preference`: `prompt`, `chosen` and `rejected`, each a list of messages, and `tools`;
- `unpaired`: `prompt` and `completion`, lists of messages, with `label` (good or bad) or `score`;
- `text`: `text`.
"""


@dataclass(frozen=True, slots=True)
class Recognised:
    """How surely (0 to 1) rows have a shape, and what speaks for it: the sentences of their codes."""

    confidence: float
    reasons: Sequence[Problem] = ()


class Format(Protocol):
    """An entry of the catalogue; stateless, torch-free."""

    kind: ClassVar[str]
    row_kind: ClassVar[str]
    """`conversation`, `preference`, `unpaired` or `text`."""
    roles: ClassVar[Mapping[str, Sequence[str]]]
    """What columns are used for → the names under which such a column is found."""
    required: ClassVar[Sequence[str]]
    """The roles without which a row cannot be read."""
    options: ClassVar[Mapping[str, str]]
    """Texts that a person may set, with what they are unless set: `import.option.<kind>.<name>` says what for."""

    def recognise(self, sample: Sequence[Raw]) -> Recognised:
        """How surely these rows have this shape, and why."""
        ...

    def convert(self, raw: Raw, columns: Columns) -> list[Row]:
        """One row in canonical form; several where it holds several answers that are each learned.

        Raises:
            BadRow: what is wrong with it; the caller adds the line.
        """
        ...
