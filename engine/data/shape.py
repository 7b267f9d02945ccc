"""Which format the rows of a file have, and which column plays which role in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.data.rows import Row
from engine.formats import FORMATS
from engine.formats.protocol import Format
from engine.specs.problem import Problem, ProblemError, problem

Raw = Mapping[str, Any]
Numbered = Sequence[tuple[int, Raw]]

MAX_NAMED_COLUMNS = 30


@dataclass(frozen=True, slots=True)
class Shape:
    """A format with its mapping, and the first line that has it."""

    kind: str
    mapping: dict[str, str]
    columns: list[str]
    first_line: int

    @property
    def row_kind(self) -> str:
        return FORMATS[self.kind].row_kind

    def convert(self, raw: Raw, line: int) -> Row | list[Problem]:
        """One row in canonical form, or what is wrong with it; a row of another shape is called that."""
        converted = FORMATS[self.kind].convert(raw, self.mapping, line)
        if not isinstance(converted, list):
            return converted
        if FORMATS[self.kind].recognise([raw]) > 0:
            return converted
        other = _best([raw], FORMATS)
        if other is None or other == self.kind:
            return converted
        return [problem("row_other_shape", line=line, shape=other, expected=self.kind, expected_line=self.first_line)]

    def warnings(self) -> list[Problem]:
        """Columns that nothing is read from."""
        unused = [name for name in self.columns if name not in self.mapping.values()]
        return [problem("columns_not_used", columns=_names(unused))] if unused else []


def shape_of(sample: Numbered, wanted: str | None, mapping: Mapping[str, str]) -> Shape:
    """Recognise a shape, within what was decided by hand.

    Raises:
        ProblemError: no format fits, or the wished mapping names what is not there.
    """
    raws = [raw for _, raw in sample]
    columns = list(dict.fromkeys(name for raw in raws for name in raw))
    kind = wanted or _by_mapping(raws, mapping) if mapping else wanted or _best(raws, FORMATS)
    if kind is None:
        allowed = ", ".join(FORMATS)
        raise ProblemError([problem("data_unknown_columns", columns=_names(columns), formats=allowed)])
    if kind not in FORMATS:
        raise ProblemError(
            [problem("data_unknown_format", field="format", given=kind[:40], allowed=", ".join(FORMATS))]
        )
    entry = FORMATS[kind]
    found = {**entry.mapping(raws), **mapping}
    problems = [*_unknown(mapping, entry, columns), *_missing(found, entry, columns)]
    if problems:
        raise ProblemError(problems)
    first = next((line for line, raw in sample if entry.recognise([raw]) > 0), sample[0][0])
    return Shape(kind, found, columns, first)


def _best(raws: Sequence[Raw], formats: Mapping[str, Format]) -> str | None:
    scores = {kind: entry.recognise(raws) for kind, entry in formats.items()}
    best = max(scores, key=lambda kind: scores[kind])
    return best if scores[best] > 0 else None


def _by_mapping(raws: Sequence[Raw], mapping: Mapping[str, str]) -> str | None:
    """The format whose roles the mapping uses and whose required roles are then all found."""
    fitting = {
        kind: entry
        for kind, entry in FORMATS.items()
        if set(mapping) <= set(entry.roles) and set(entry.required) <= set(mapping) | set(entry.mapping(raws))
    }
    if not fitting:
        return _best(raws, FORMATS)
    return max(fitting, key=lambda kind: len(set(fitting[kind].required) & set(mapping)))


def _unknown(mapping: Mapping[str, str], entry: Format, columns: Sequence[str]) -> list[Problem]:
    found = [
        problem("data_unknown_role", field=f"mapping.{role}", role=role[:40], allowed=", ".join(entry.roles))
        for role in mapping
        if role not in entry.roles
    ]
    return found + [
        problem("data_column_missing", field=f"mapping.{role}", column=column[:80], columns=_names(columns))
        for role, column in mapping.items()
        if role in entry.roles and column not in columns
    ]


def _missing(found: Mapping[str, str], entry: Format, columns: Sequence[str]) -> list[Problem]:
    return [
        problem("data_role_missing", field=f"mapping.{role}", role=role, format=entry.kind, columns=_names(columns))
        for role in entry.required
        if role not in found
    ]


def _names(columns: Sequence[str]) -> str:
    shown = [name[:60] for name in columns[:MAX_NAMED_COLUMNS]]
    return ", ".join(shown) + (" …" if len(columns) > MAX_NAMED_COLUMNS else "")
