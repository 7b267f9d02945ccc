"""What the Data page shows of an import: how far it is, what came of it, or why nothing did."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from app import datacard, shapeform, underway
from app.measure import number
from app.render import Html, card, chip, join, tag
from app.tones import TONES
from app.ui import Ui
from engine.specs.problem import Problem
from storage.datasets import Version
from storage.jobs import Job
from storage.states import State


def html(found: Iterable[tuple[Job, Version | None]], ui: Ui) -> Html:
    """Return the imports with what they made."""
    cards = [_one(job, made, ui) for job, made in found]
    return tag("div", *cards, cls="at-stack") if cards else Html("")


def _one(job: Job, made: Version | None, ui: Ui) -> Html:
    t = ui.t
    body = BODIES.get(job.state, _nothing)(job, made, ui)
    title = str(job.spec.get("source_name") or job.name)
    return card(body, title=title, aside=chip(t(f"import.{job.state}"), TONES[job.state]), tone=TONES[job.state])


def _moving(job: Job, _made: Version | None, ui: Ui) -> Html:
    t = ui.t
    said = t.either(f"phase.{job.phase}", "import.waits" if job.state == State.QUEUED else "import.reads")
    if job.progress_step and not job.progress_total:
        said = t("import.rows_read", n=number(job.progress_step))
    return underway.moving(job, said)


def _made(_job: Job, made: Version | None, ui: Ui) -> Html:
    t = ui.t
    if made is None:
        return tag("p", t("import.gone"), cls="at-soft")
    parts: list[object] = [t("import.made", rows=number(made.rows), usable=number(made.usable_rows))]
    if made.problem_count:
        told = t("import.problems", n=number(made.problem_count))
        parts.append(datacard.goto(told, dataset=made.name, view="problems"))
    parts.append(datacard.goto(t("import.open", name=made.name, version=made.version), dataset=made.name))
    return tag("p", join(parts, " · "))


def _failed(job: Job, _made: Version | None, ui: Ui) -> Html:
    found = [Problem.from_dict(item) for item in _listed(job.values)]
    first = found[0] if found else None
    what = ui.t.problem(first) if first and first.code == job.reason else (ui.reason(job.reason, job.values), "")
    said = tag("p", join([tag("strong", what[0]), what[1]], " "))
    rest = [one for one in found if one is not first or one.code != job.reason]
    count = int(job.values.get("count") or len(rest)) if rest else 0
    put_right = shapeform.of_import(ui, job) is not None
    return join(
        [
            said,
            datacard.problem_table(rest, count, ui.t) if rest else "",
            tag("p", ui.t("import.nothing_stored"), cls="at-soft at-small"),
            datacard.goto(ui.t("shape.say"), upload=job.id, cls="at-button at-small") if put_right else "",
        ]
    )


def _listed(values: Mapping[str, Any]) -> list[Any]:
    found = values.get("problems")
    return found if isinstance(found, list) else []


def _nothing(_job: Job, _made: Version | None, ui: Ui) -> Html:
    return tag("p", ui.t("import.nothing_stored"), cls="at-soft")


BODIES = {State.QUEUED: _moving, State.RUNNING: _moving, State.SUCCEEDED: _made, State.FAILED: _failed}
