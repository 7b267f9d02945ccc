"""How most shapes are recognised: by the columns that they cannot do without."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from engine.formats.columns import Raw, Roles, find_columns, share
from engine.formats.protocol import Recognised
from engine.specs.problem import problem

Test = Callable[[Raw, Mapping[str, str]], bool]


def by_columns(
    sample: Sequence[Raw], roles: Roles, required: Sequence[str], *, sure: float = 1.0, test: Test | None = None
) -> Recognised:
    """The share of rows that have the required columns and pass a test, times how much such columns tell."""
    mapping = find_columns(sample, roles)
    if not all(role in mapping for role in required):
        return Recognised(0.0)
    names = [mapping[role] for role in required]
    found = share(sample, lambda raw: all(name in raw for name in names) and (test is None or test(raw, mapping)))
    why = problem("shape_columns", columns=", ".join(names), percent=round(100 * found))
    return Recognised(sure * found, [why] if found else [])
