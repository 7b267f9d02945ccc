"""Columns: which one plays which role of a format, found by name or set by hand, and what every format's rows share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Raw = Mapping[str, Any]
Roles = Mapping[str, Sequence[str]]

SHARED: Roles = {
    "split": ("split",),
    "task_type": ("task_type", "task"),
    "group": ("group", "group_id", "conversation_id"),
    "origin": ("origin",),
}
"""Roles that every format has: the part a row belongs to, its task, what keeps rows together when split, and whether a
model made it."""
TEST_SPLITS = frozenset({"test", "heldout", "held_out", "held-out"})
TRAIN_SPLITS = frozenset({"train", "training"})
GENERATED = "generated"
"""The origin of a row that a model drafted; other words in such a column mean something else."""
MAX_SHARED_CHARACTERS = 200
NOTHING_SHARED: Mapping[str, str | None] = dict.fromkeys(SHARED)


@dataclass(frozen=True, slots=True)
class Columns:
    """Role → column, and the texts of a format's options."""

    mapping: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)

    def __contains__(self, role: str) -> bool:
        return role in self.mapping

    def name(self, role: str) -> str:
        """The column of a role; the role itself where it has none, to be named in a problem."""
        return self.mapping.get(role, role)

    def cell(self, raw: Raw, role: str) -> Any:
        """The value that a row has for a role; None where there is no such column or the cell is empty."""
        column = self.mapping.get(role)
        value = None if column is None else raw.get(column)
        return None if value == "" else value


def find_columns(sample: Sequence[Raw], roles: Roles) -> dict[str, str]:
    """Role → the first known name that stands in the sample, compared without case."""
    present: dict[str, str] = {}
    for raw in sample:
        for name in raw:
            present.setdefault(name.strip().lower(), name)
    found: dict[str, str] = {}
    for role, names in roles.items():
        known = (present[name] for name in names if name in present)
        column = next((name for name in known if name not in found.values()), None)
        if column is not None:
            found[role] = column
    return found


def share(sample: Sequence[Raw], test: Callable[[Raw], Any]) -> float:
    """The share of rows that pass a test; 0 of no rows."""
    return sum(1 for raw in sample if test(raw)) / len(sample) if sample else 0.0


def shared(raw: Raw, columns: Columns) -> Mapping[str, str | None]:
    """The keys that every canonical row has beside those of its kind."""
    if columns.mapping.keys().isdisjoint(SHARED):
        return NOTHING_SHARED
    return {
        "split": split_of(columns.cell(raw, "split")),
        "task_type": _word(columns.cell(raw, "task_type")),
        "group": _word(columns.cell(raw, "group")),
        "origin": GENERATED if columns.cell(raw, "origin") == GENERATED else None,
    }


def split_of(value: Any) -> str | None:
    """`test` and `train` where a row says so; other words decide nothing."""
    word = value.strip().lower() if isinstance(value, str) else ""
    return "test" if word in TEST_SPLITS else "train" if word in TRAIN_SPLITS else None


def _word(value: Any) -> str | None:
    """A name: a text or a whole number, as text."""
    if isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool)):
        return str(value).strip()[:MAX_SHARED_CHARACTERS] or None
    return None
