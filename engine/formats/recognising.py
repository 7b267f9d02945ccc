"""How most shapes are recognised: by the columns that they cannot do without."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from engine.formats.columns import Raw, Roles, find_columns
from engine.formats.protocol import Recognised
from engine.specs.problem import problem

Test = Callable[[Raw, Mapping[str, str]], bool]


def by_columns(
    sample: Sequence[Raw], roles: Roles, required: Sequence[str], *, sure: float = 1.0, test: Test | None = None
) -> Recognised:
    """The share of rows that have the required columns and pass a test, times how much such columns tell.

    A row with an empty cell among them speaks neither for nor against: other rows must have passed.
    """
    mapping = find_columns(sample, roles)
    if not all(role in mapping for role in required):
        return Recognised(0.0)
    names = [mapping[role] for role in required]
    there = [raw for raw in sample if all(name in raw for name in names)]
    failed = [raw for raw in there if test is not None and not test(raw, mapping)]
    if len(failed) == len(there):
        return Recognised(0.0)
    telling = [raw for raw in failed if not any(raw[name] in (None, "") for name in names)]
    found = (len(there) - len(telling)) / len(sample)
    return Recognised(sure * found, [problem("shape_columns", columns=", ".join(names), percent=round(100 * found))])
