"""Finding columns by name: which column of a sample plays which role of a format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Raw = Mapping[str, Any]
Roles = Mapping[str, Sequence[str]]

SPLIT = ("split",)


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


def share(sample: Sequence[Raw], test: Any) -> float:
    """The share of rows that pass a test; 0 of no rows."""
    return sum(1 for raw in sample if test(raw)) / len(sample) if sample else 0.0


def cell(raw: Raw, mapping: Mapping[str, str], role: str) -> Any:
    """The value that a row has for a role; None where there is no such column or the cell is empty."""
    value = raw.get(mapping[role]) if role in mapping else None
    return None if value == "" else value
