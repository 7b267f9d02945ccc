"""The Task types view of a dataset: how they are now, a proposal from the prompts, and rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app import taskclusters, taskrules
from app.language import Text
from app.measure import number, share
from app.render import Html, card, join, table, tag
from app.taskclusters import Clusters
from app.taskrules import Rules
from app.ui import Ui
from storage.datasets import Version

MOST_TYPES = 30
Updates = dict[Any, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Tasks:
    """Its components."""

    clusters: Clusters
    rules: Rules

    @property
    def all(self) -> list[Any]:
        return [*self.clusters.all, *self.rules.all]


def build(t: Text) -> Tasks:
    """Lay the components out, hidden."""
    return Tasks(taskclusters.build(t), taskrules.build(t))


def show(ui: Ui, parts: Tasks, version: Version | None, view: str) -> Updates:
    """Draw the components for a version."""
    return {**taskclusters.show(ui, parts.clusters, version, view), **taskrules.show(parts.rules, version, view)}


def body(ui: Ui, version: Version) -> tuple[Html, int | None]:
    """Return the task types of a version, and how far a proposal is."""
    proposal, still = taskclusters.body(ui, version)
    return tag("div", _now(version, ui.t), proposal, cls="at-stack"), still


def _now(version: Version, t: Text) -> Html:
    known: Mapping[str, int] = version.statistics.get("task_types") or {}
    num_without = version.usable_rows - sum(known.values())
    lead = tag("p", t("tasks.lead"), cls="at-soft at-small")
    if not known:
        return card(tag("p", t("tasks.none")), lead, title=t("tasks.now"))
    ordered = sorted(known.items(), key=lambda item: -item[1])
    lines = [[name, *_counted(count, version)] for name, count in ordered[:MOST_TYPES]]
    rest = sum(count for _, count in ordered[MOST_TYPES:])
    if rest:
        lines.append([t("tasks.others", n=number(len(ordered) - MOST_TYPES)), *_counted(rest, version)])
    if num_without:
        lines.append([tag("span", t("tasks.without"), cls="at-soft"), *_counted(num_without, version)])
    head = [t("shape.role.task_type"), t("data.rows"), t("data.share")]
    return card(join([table(head, lines), lead]), title=t("tasks.now"))


def _counted(count: int, version: Version) -> list[object]:
    return [number(count), share(count, version.usable_rows)]
