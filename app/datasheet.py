"""The card of a dataset version as Markdown: what it holds, where it came from, what was left out; text escaped."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from app.language import Text
from app.measure import number, size
from engine.exporters.card import plain
from engine.specs.problem import Problem
from storage.datasets import Version
from storage.lineage import Lineage

MOST_PROBLEMS = 10


def markdown(version: Version, family: Lineage, t: Text) -> str:
    """Return the card."""
    return "\n".join(_lines(version, family, t)) + "\n"


def _lines(version: Version, family: Lineage, t: Text) -> Iterator[str]:
    yield from (f"# {plain(version.name)}", "")
    facts = {
        "version": version.version,
        "rows": number(version.usable_rows),
        "row_kind": t.get(f"row_kind.{version.row_kind}", version.row_kind),
        "format": version.format,
        "source": version.source_name,
        "size": size(version.bytes),
        "sha256": version.sha256,
    }
    yield from _table({t(f"sheet.{key}"): value for key, value in facts.items()} | {t("sheet.licence"): ""})
    yield from ("", f"## {t('sheet.origin')}", "", *_origin(version, family, t))
    known = {name: value for name, value in version.statistics.items() if name != "recognition"}
    yield from ("", f"## {t('sheet.statistics')}", "", *_table(_flat(known)))
    yield from ("", f"## {t('sheet.left_out')}", "", *_left_out(version, t))


def _table(facts: dict[str, Any]) -> Iterator[str]:
    yield from ("| | |", "|---|---|")
    yield from (f"| {plain(str(name))} | {plain(str(value))} |" for name, value in facts.items())


def _flat(statistics: dict[str, Any], before: str = "") -> dict[str, Any]:
    """Nested counts as one level: `splits test`."""
    found: dict[str, Any] = {}
    for name, value in statistics.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{before}{name} ")
        elif isinstance(value, str | int | float):
            found[f"{before}{name}"] = value
    return found


def _origin(version: Version, family: Lineage, t: Text) -> Iterator[str]:
    if version.made_from is None:
        yield t("sheet.from_file", source=plain(version.source_name))
        return
    for one in family.ancestors:
        gone = "" if one.version_id is not None else t("sheet.gone")
        told = {"name": plain(one.name), "version": one.version, "operation": plain(one.operation), "gone": gone}
        yield "  " * (one.depth - 1) + "- " + t("sheet.ancestor", **told).strip()
    settings = ((name, value) for name, value in version.made_from["settings"].items() if value not in (None, []))
    yield from ("", *_table(dict(settings)))


def _left_out(version: Version, t: Text) -> Iterator[str]:
    if version.problem_count == 0:
        yield t("sheet.nothing_left_out")
        return
    yield t("sheet.num_left_out", n=number(version.problem_count), rows=number(version.rows))
    yield ""
    for item in version.problems[:MOST_PROBLEMS]:
        found = Problem.from_dict(item)
        line = t("problem.at_line", line=found.where.line) + ": " if found.where.line else ""
        yield f"- {plain(line + t.problem(found)[0])}"
