"""Which format the rows of a file have, and which column plays which role in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from engine.data.rows import Row
from engine.data.source import Line, in_file
from engine.formats import FORMATS
from engine.formats.columns import SHARED, Columns, find_columns, shared
from engine.formats.messages_of import MEDIA, BadRow
from engine.formats.protocol import Format, Recognised
from engine.specs.problem import Problem, ProblemError, Where, problem

Raw = Mapping[str, Any]
Numbered = Sequence[tuple[int, Raw]]

MAX_NAMED_COLUMNS = 30
MAX_NAMES = 200
MEDIA_COLUMNS = {name: medium for medium in MEDIA for name in (medium, f"{medium}s")}


@dataclass(frozen=True, slots=True)
class Shape:
    """A format with its mapping, what spoke for it, and the first line that has it."""

    kind: str
    columns: Columns
    names: list[str]
    first_line: int
    recognised: Recognised
    others: dict[str, float]
    """The other formats that fit, each with how surely."""

    @property
    def row_kind(self) -> str:
        return FORMATS[self.kind].row_kind

    def convert(self, raw: Raw, line: int) -> list[Row]:
        """One row in canonical form, several where it holds several answers.

        Raises:
            BadRow: what is wrong with it, with its line; a row of another shape is called that.
        """
        entry = FORMATS[self.kind]
        try:
            self._refuse_media(raw)
            rows = entry.convert(raw, self.columns)
        except BadRow as error:
            raise BadRow(*self._at(raw, line, error.problems)) from error
        more = shared(raw, self.columns)
        for row in rows:
            row.update(more)
        return rows

    def _refuse_media(self, raw: Raw) -> None:
        """Images, audio or video beside the texts: learning the texts alone would be learning something else."""
        if MEDIA_COLUMNS.keys().isdisjoint(raw):
            return
        for name, medium in MEDIA_COLUMNS.items():
            if raw.get(name) and name not in self.columns.mapping.values():
                raise BadRow(problem("row_not_only_text", field=name, given=medium))

    def _at(self, raw: Raw, line: int, found: Sequence[Problem]) -> list[Problem]:
        entry = FORMATS[self.kind]
        empty = any(raw.get(self.columns.name(role), "-") in (None, "") for role in entry.required)
        if not empty and not entry.recognise([raw]).confidence:
            other, _ = _best([raw])
            if other is not None and other != self.kind:
                expected = int(self.first_line)
                found = [problem("row_other_shape", shape=other, expected=self.kind, expected_line=expected)]
        found = [replace(item, where=Where(item.where.field, int(line))) for item in found]
        return [in_file(item, line.file) for item in found] if isinstance(line, Line) else list(found)

    def warnings(self) -> list[Problem]:
        """Columns that nothing is read from."""
        unused = [name for name in self.names if name not in self.columns.mapping.values()]
        return [problem("columns_not_used", columns=_names(unused))] if unused else []


def shape_of(
    sample: Numbered, wanted: str | None, mapping: Mapping[str, str], options: Mapping[str, str] | None = None
) -> Shape:
    """Recognise a shape, within what was decided by hand.

    Raises:
        ProblemError: no format fits, or the wished mapping or an option names what is not there.
    """
    raws = [raw for _, raw in sample]
    names = list(dict.fromkeys(name for raw in raws for name in raw))
    best, scores = _best(raws)
    kind = wanted or (_by_mapping(raws, mapping) if mapping else best)
    if kind is None:
        allowed = ", ".join(FORMATS)
        said = problem("data_unknown_columns", columns=_names(names), formats=allowed, names=names[:MAX_NAMES])
        raise ProblemError([said])
    if kind not in FORMATS:
        raise ProblemError(
            [problem("data_unknown_format", field="format", given=kind[:40], allowed=", ".join(FORMATS))]
        )
    entry = FORMATS[kind]
    found = {**find_columns(raws, {**entry.roles, **SHARED}), **mapping}
    found = {role: column for role, column in found.items() if column}
    problems = [*_unknown(mapping, entry, names), *_missing(found, entry, names), *_unknown_options(options, entry)]
    if problems:
        raise ProblemError(problems)
    first = next((line for line, raw in sample if entry.recognise([raw]).confidence), sample[0][0])
    others = {other: score for other, score in scores.items() if other != kind and score}
    columns = Columns(found, {**entry.options, **(options or {})})
    return Shape(kind, columns, names, first, entry.recognise(raws), others)


def _best(raws: Sequence[Raw]) -> tuple[str | None, dict[str, float]]:
    scores = {kind: entry.recognise(raws).confidence for kind, entry in FORMATS.items()}
    best = max(scores, key=lambda kind: scores[kind])
    return (best if scores[best] > 0 else None), scores


def _by_mapping(raws: Sequence[Raw], mapping: Mapping[str, str]) -> str | None:
    """The format whose roles the mapping uses and whose required roles are then all found."""
    fitting = {
        kind: entry
        for kind, entry in FORMATS.items()
        if set(mapping) <= {*entry.roles, *SHARED}
        and set(entry.required) <= set(mapping) | set(find_columns(raws, entry.roles))
    }
    best, scores = _best(raws)
    if not fitting:
        return best
    return max(fitting, key=lambda kind: (len(set(fitting[kind].required) & set(mapping)), scores[kind]))


def _unknown(mapping: Mapping[str, str], entry: Format, columns: Sequence[str]) -> list[Problem]:
    found = [
        problem(
            "data_unknown_role", field=f"mapping.{role}", role=role[:40], allowed=", ".join((*entry.roles, *SHARED))
        )
        for role in mapping
        if role not in entry.roles and role not in SHARED
    ]
    return found + [
        problem("data_column_missing", field=f"mapping.{role}", column=column[:80], columns=_names(columns))
        for role, column in mapping.items()
        if (role in entry.roles or role in SHARED) and column and column not in columns
    ]


def _missing(found: Mapping[str, str], entry: Format, columns: Sequence[str]) -> list[Problem]:
    return [
        problem("data_role_missing", field=f"mapping.{role}", role=role, format=entry.kind, columns=_names(columns))
        for role in entry.required
        if role not in found
    ]


def _unknown_options(options: Mapping[str, str] | None, entry: Format) -> list[Problem]:
    allowed = ", ".join(entry.options) or "-"
    unknown = [name for name in options or {} if name not in entry.options]
    return [
        problem("data_unknown_option", field=f"options.{name}", given=name[:40], allowed=allowed) for name in unknown
    ]


def _names(columns: Sequence[str]) -> str:
    shown = [name[:60] for name in columns[:MAX_NAMED_COLUMNS]]
    return ", ".join(shown) + (" …" if len(columns) > MAX_NAMED_COLUMNS else "")
