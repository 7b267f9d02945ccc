"""The Download view of a dataset: its rows written as files, and its card."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from app import dataorders, downloads, underway
from app.language import Text
from app.measure import number, size, when
from app.panel import Panel
from app.render import Html, card, link, note, table, tag
from app.ui import Ui
from engine.specs.versions import WRITTEN_AS
from storage import datasets
from storage.datasets import Version
from storage.jobs import Job
from storage.states import FINAL, State

MOST_SHOWN = 10
Updates = dict[Any, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Files:
    """Its components."""

    box: gr.Row
    form: gr.Radio
    write: gr.Button
    said: Panel

    @property
    def all(self) -> list[Any]:
        return [self.box, self.said]


def build(t: Text) -> Files:
    """Lay the components out, hidden."""
    with gr.Row(visible=False, elem_classes=["at-tools"], elem_id="files") as box:
        choices = [(t(f"files.form.{one}"), one) for one in WRITTEN_AS]
        form = gr.Radio(choices, value=WRITTEN_AS[0], label=t("files.form"), elem_id="files-form")
        write = gr.Button(t("files.write"), size="md", elem_id="files-write")
    return Files(box, form, write, Panel(elem_id="files-said"))


def show(parts: Files, version: Version | None, view: str) -> Updates:
    """Show the components in their view."""
    return {parts.box: gr.update(visible=version is not None and view == "files"), parts.said: Html("")}


def body(ui: Ui, version: Version) -> tuple[Html, int | None]:
    """Return the files of a version with the way to each, and the job that writes one."""
    t = ui.t
    with ui.store.read() as session:
        found = dataorders.of_version(session, "write_data", version)
    sheet = link(t("files.card"), downloads.card_address(version.id), download=True)
    parts = [_going_on(job, t) for job in found if job.state not in FINAL]
    if found and found[0].state == State.FAILED:
        parts.append(note("", t.failure(str(found[0].reason), found[0].values), tone="bad"))
    written = [job for job in found if job.state == State.SUCCEEDED][:MOST_SHOWN]
    if written or not parts:
        parts.append(_written(ui, written))
    parts.append(card(tag("p", t("files.card_text"), cls="at-soft"), tag("p", sheet), title=t("files.card_title")))
    still = next((job.id for job in found if job.state not in FINAL), None)
    return tag("div", *parts, cls="at-stack"), still


def _going_on(job: Job, t: Text) -> Html:
    works = underway.progress(job, waits=t("files.waits"), works=t("files.works"))
    return card(works, title=t(f"files.form.{job.spec['form']}"))


def _written(ui: Ui, found: Sequence[Job]) -> Html:
    t, now = ui.t, time.time()
    lines = [line for job in found for line in _lines(ui, job, now)]
    if not lines:
        return card(tag("p", t("files.none"), cls="at-soft"), title=t("files.title"))
    head = [t("export.file"), t("data.rows"), t("export.size"), t("data.when"), ""]
    return card(table(head, lines), title=t("files.title"))


def _lines(ui: Ui, job: Job, now: float) -> list[list[object]]:
    t, result = ui.t, job.result or {}
    defused = t("files.defused", n=number(result["defused"])) if result.get("defused") else ""
    lines: list[list[object]] = []
    for one in result.get("files", []):
        there = downloads.find(ui.home, ui.store, job.id, one["name"]) is not None
        name = link(one["name"], downloads.address(job.id, one["name"]), download=True) if there else one["name"]
        remark = defused if there else t("files.gone")
        lines.append([name, number(result["rows"]), size(one["bytes"]), when(t, job.finished_at, now), remark])
    return lines


def write(ui: Ui, version_id: int, form: str | None) -> None:
    """Queue a file of a version, unless the same one is on its way.

    Raises:
        ProblemError: there is no such form.
        NotFound: the version is gone.
    """
    with ui.store.write() as session:
        version = datasets.by_id(session, version_id)
        known = dataorders.of_version(session, "write_data", version)
        if not any(job.state not in FINAL and job.spec["form"] == form for job in known):
            told = {"data": dataorders.part(version), "form": form}
            dataorders.order(session, "write_data", version.name, told)
