"""The Check view of a dataset: what an examination found, with the way to its rows and to a version without them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from app import datacard, dataorders, underway
from app.derivations import derive
from app.language import Text
from app.measure import number
from app.render import Html, card, chip, empty, join, note, tag
from app.ui import Ui
from engine.specs.problem import Problem, ProblemError, problem
from storage import datasets
from storage.datasets import Version
from storage.jobs import Job
from storage.states import FINAL, State

LINKED_ROWS = 8
HOLD_BY: dict[str, dict[str, str]] = {
    "row": {},
    "group": {"by": "group"},
    "task_type": {"stratified_by": "task_type"},
    "label": {"stratified_by": "label"},
}
"""How rows are chosen to be held out → what the operation is told."""
LEARNING_CURVE = (50, 100, 200, 400, 800, 1600, 3200)
SEVERITIES = {"error": "bad", "warning": "waiting", "note": "plain"}
Updates = dict[Any, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Doctor:
    """Its components."""

    box: gr.Group
    examine: gr.Button
    found: gr.CheckboxGroup
    clean: gr.Button
    others: gr.Accordion
    held_out: gr.Number
    hold_by: gr.Dropdown
    divide: gr.Button
    curve: gr.Button

    @property
    def all(self) -> list[Any]:
        return [self.box, self.examine, self.found, self.clean, self.others]


def build(t: Text) -> Doctor:
    """Lay the components out, hidden."""
    with gr.Group(visible=False, elem_id="doctor") as box:
        examine = gr.Button(t("doctor.examine"), elem_id="examine", size="md")
        found = gr.CheckboxGroup([], label=t("doctor.leave_out"), visible=False, elem_id="findings")
        clean = gr.Button(t("doctor.clean"), visible=False, elem_id="clean", size="md")
    others = gr.Accordion(t("doctor.others"), open=False, visible=False, elem_id="make-versions")
    with others, gr.Row(elem_classes=["at-tools"]):
        held_out = gr.Number(10, precision=0, minimum=1, maximum=90, label=t("doctor.held_out"))
        ways = [(t(f"doctor.hold_by.{one}"), one) for one in HOLD_BY]
        hold_by = gr.Dropdown(ways, value="row", filterable=False, label=t("doctor.hold_by"), elem_id="hold-by")
        divide = gr.Button(t("doctor.divide"), size="md", elem_id="divide")
        curve = gr.Button(t("doctor.curve"), size="md", elem_id="learning-curve")
    return Doctor(box, examine, found, clean, others, held_out, hold_by, divide, curve)


def show(ui: Ui, doctor: Doctor, version: Version | None, view: str) -> Updates:
    """Draw the components for what the newest examination found."""
    if version is None or view != "check":
        hidden: Updates = {one: gr.skip() for one in doctor.all}
        hidden |= {doctor.box: gr.update(visible=False)}
        return {**hidden, doctor.others: gr.update(visible=version is not None and view == "versions")}
    with ui.store.read() as session:
        job, examined = dataorders.latest(session, "examine", version)
    findings = _findings(examined)
    choices = [(_label(one, ui.t), one["key"]) for one in findings if one["removable"]]
    chosen = [one["key"] for one in findings if one["removable"] and one["severity"] != "note"]
    return {
        doctor.box: gr.update(visible=True),
        doctor.examine: gr.update(visible=job is None or job.state in FINAL),
        doctor.found: gr.update(visible=bool(choices), choices=choices, value=chosen),
        doctor.clean: gr.update(visible=bool(choices)),
        doctor.others: gr.update(visible=False),
    }


def body(ui: Ui, version: Version) -> tuple[Html, int | None]:
    """Return what the newest examination found, and its job while it goes on."""
    t = ui.t
    with ui.store.read() as session:
        job, examined = dataorders.latest(session, "examine", version)
    if job is None:
        return empty(t("doctor.none_title"), t("doctor.none")), None
    if job.state not in FINAL:
        return card(underway.progress(job, waits=t("doctor.waits"), works=t("doctor.looks"))), job.id
    failed = note("", ui.reason(job.reason, job.values), tone="bad") if job.state != State.SUCCEEDED else ""
    found = _said(version, examined, t) if examined is not None else ()
    return tag("div", failed, *found, cls="at-stack"), None


def _said(version: Version, examined: Job, t: Text) -> Sequence[Html]:
    findings = _findings(examined)
    if findings:
        return [_card(version, one, t) for one in findings]
    rows = number((examined.result or {}).get("rows"))
    return [note("", t("doctor.healthy", rows=rows, n=len(examined.spec["checks"])), tone="good")]


def _findings(job: Job | None) -> Sequence[Mapping[str, Any]]:
    found: Sequence[Mapping[str, Any]] = (job.result or {}).get("findings", []) if job is not None else []
    return sorted(found, key=lambda one: list(SEVERITIES).index(one["severity"]))


def _card(version: Version, one: Mapping[str, Any], t: Text) -> Html:
    what, fix = t.problem(Problem(one["code"], values=one["values"]))
    shown = one["rows"][:LINKED_ROWS]
    links = [datacard.goto(number(row + 1), **datacard.at(version), view="rows", row=row + 1) for row in shown]
    more = t("doctor.more", n=number(one["count"] - len(shown))) if one["count"] > len(shown) else ""
    rows = tag("p", t("doctor.rows"), " ", join(links, ", "), " ", more, cls="at-small") if shown else ""
    severity = SEVERITIES[one["severity"]]
    aside = join(
        [chip(t(f"doctor.{one['severity']}"), severity), tag("span", number(one["count"]), cls="at-soft")], " "
    )
    return card(tag("p", fix, cls="at-soft"), rows, title=what, aside=aside, tone=severity)


def _label(one: Mapping[str, Any], t: Text) -> str:
    what, _ = t.problem(Problem(one["code"], values=one["values"]))
    return t("doctor.removable", what=what, n=number(one["removable"]))


def examine(ui: Ui, version_id: int) -> None:
    """Queue an examination.

    Raises:
        NotFound: the version is gone.
    """
    with ui.store.write() as session:
        version = datasets.by_id(session, version_id)
        job, _ = dataorders.latest(session, "examine", version)
        if job is None or job.state in FINAL:
            dataorders.order(session, "examine", version.name, {"data": dataorders.part(version)})


def clean(ui: Ui, version_id: int, keys: Sequence[str]) -> None:
    """Queue a version without the rows of these findings.

    Raises:
        ProblemError: nothing was chosen, or there is no examination.
        NotFound: the version is gone.
    """
    with ui.store.write() as session:
        version = datasets.by_id(session, version_id)
        _, examined = dataorders.latest(session, "examine", version)
        if examined is None or examined.result is None:
            raise ProblemError([problem("data_not_examined", field="operation.examined", given="-")])
        operation = {"kind": "without", "examined": examined.result["key"], "findings": list(keys)}
        derive(session, version.name, [version], operation)


def divide(ui: Ui, version_id: int, percent: float | None, by: str = "row") -> None:
    """Queue a version in which a share of the rows is held out.

    Raises:
        ProblemError: the share is none.
        NotFound: the version is gone.
    """
    with ui.store.write() as session:
        version = datasets.by_id(session, version_id)
        derive(
            session,
            version.name,
            [version],
            {"kind": "set_split", "share": (percent or 0) / 100, **HOLD_BY.get(by, {})},
        )


def learning_curve(ui: Ui, version_id: int) -> None:
    """Queue nested samples of 50, 100, 200 … rows, each a dataset of its own.

    Raises:
        ProblemError: there are too few rows for one.
        NotFound: the version is gone.
    """
    with ui.store.write() as session:
        version = datasets.by_id(session, version_id)
        rows = dataorders.training_rows(version)
        sizes = [size for size in LEARNING_CURVE if size < rows]
        if not sizes:
            least = LEARNING_CURVE[0]
            raise ProblemError([problem("data_too_few_to_sample", rows=rows, least=least)])
        for size in sizes:
            derive(session, f"{version.name} ({size})", [version], {"kind": "sample", "rows": size})
