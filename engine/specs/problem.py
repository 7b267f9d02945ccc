"""Problem: the one type for what is wrong with a form, a file, a row or a run. Sentences live in the language files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Where:
    """The address of a problem: a dotted field, a 1-based line or row number of a file, or both."""

    field: str | None = None
    line: int | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong, as a code and the values of its sentence (`problem.<code>.what` and `problem.<code>.fix`)."""

    code: str
    where: Where = Where()
    values: Mapping[str, Any] = field(default_factory=dict)

    @property
    def file(self) -> str | None:
        """The file whose line it is, where there were several."""
        name = self.values.get("file")
        return str(name) if name is not None and self.where.line is not None else None

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form that rows store."""
        return {"code": self.code, "field": self.where.field, "line": self.where.line, "values": dict(self.values)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Problem:
        """Rebuild a problem from its JSON form."""
        return cls(data["code"], Where(data.get("field"), data.get("line")), dict(data.get("values") or {}))


class ProblemError(Exception):
    """One or more problems stand in the way; all of them are carried together."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(f"{p.code} {p.where.field or ''} {dict(p.values)}" for p in self.problems))


def problem(code: str, /, *, field: str | None = None, line: int | None = None, **values: Any) -> Problem:
    """Make a problem in one line."""
    return Problem(code, Where(field, line), values)
