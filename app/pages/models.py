"""Models: what can be trained and talked to, where it comes from, and how another one is added."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from app import mergeform, modeladding, modelcard, watching
from app.dataview import moved
from app.form import label_of, named
from app.frame import QUIET, on_load, selection
from app.panel import Panel
from app.refusal import refusal
from app.render import Html, empty, heading, note, problems
from app.ui import Ui
from engine.specs.problem import ProblemError
from engine.specs.starter import STARTER
from storage import models
from storage.errors import StoreError
from storage.states import FINAL

QUEUED: dict[str, Any] = {**QUIET, "queue": True}
LOOK_AGAIN_S = 0.7
Updates = dict[Any, Any]


@dataclass(frozen=True, slots=True)
class Parts:
    """The components of the page."""

    list: Panel
    starter: gr.Button
    source: gr.Radio
    location: gr.Textbox
    revision: gr.Textbox
    name: gr.Textbox
    add: gr.Button
    arrivals: Panel
    cancel: gr.Button
    seen: gr.Button
    said: Panel
    detail: Panel
    manage: gr.Accordion
    sure: gr.Checkbox
    remove: gr.Button
    drawn: gr.State
    """The name of the model that is shown."""
    timer: gr.Timer


def build(ui: Ui) -> None:
    """Lay the page out."""
    t = ui.t
    Panel(heading(t("page.models"), t("models.lead")))
    chosen = selection()
    with gr.Row(elem_classes=["at-split"]):
        with gr.Column(elem_classes=["at-list"]):
            listed = Panel(elem_id="models")
            missing = gr.Button(t("models.add_starter"), visible=False, elem_id="add-starter")
        with gr.Column(elem_classes=["at-detail"]):
            arrivals = Panel(elem_id="arrivals")
            with gr.Row(elem_classes=["at-buttons"]):
                cancel = gr.Button(t("models.cancel"), size="sm", visible=False)
                seen = gr.Button(t("import.put_away"), size="sm", visible=False)
            said, detail = Panel(elem_id="models-said"), Panel(elem_id="model")
            with (
                gr.Accordion(t("models.remove"), open=False, visible=False) as manage,
                gr.Row(elem_classes=["at-tools"]),
            ):
                sure = gr.Checkbox(label=t("models.sure"), elem_id="remove-sure")
                remove = gr.Button(t("models.remove"), variant="stop", interactive=False, elem_id="remove-model")
            form = _form(ui)
            mergeform.build(ui)
    parts = Parts(
        listed,
        missing,
        *form,
        arrivals,
        cancel,
        seen,
        said,
        detail,
        manage,
        sure,
        remove,
        gr.State(),
        gr.Timer(LOOK_AGAIN_S, active=False),
    )
    _wire(ui, parts, chosen)


def _form(ui: Ui) -> tuple[gr.Radio, gr.Textbox, gr.Textbox, gr.Textbox, gr.Button]:
    t = ui.t
    with gr.Accordion(t("models.add_title"), open=False, elem_id="add-model-form"):
        with gr.Group(elem_classes=["at-fields"]):
            choices = [(t(f"models.source.{one}"), one) for one in modeladding.SOURCES]
            source = gr.Radio(
                choices, value="folder", label=t("models.where"), info=t("models.where.folder"), elem_id="model-source"
            )
            location = gr.Textbox(
                label=t("models.location.folder"), max_lines=1, elem_id="model-location", placeholder="/…"
            )
            revision = gr.Textbox(
                label=label_of("model.revision", t), info=t("models.revision_help"), max_lines=1, visible=False
            )
            name = gr.Textbox(label=label_of("name", t), info=t("models.name_help"), max_lines=1, elem_id="model-name")
        add = gr.Button(t("models.add"), variant="primary", elem_id="add-model")
    return source, location, revision, name, add


def _wire(ui: Ui, parts: Parts, chosen: gr.Textbox) -> None:
    drawn: list[Any] = [parts.list, parts.starter, parts.arrivals, parts.cancel, parts.seen, parts.said, parts.detail]
    drawn += [parts.manage, parts.sure, parts.remove, parts.drawn, parts.timer]

    def here(request: gr.Request) -> Updates:
        return show(ui, parts, request.query_params.get("model"))

    def again(before: str | None, request: gr.Request) -> Updates:
        return look_again(ui, parts, request.query_params.get("model"), before)

    on_load(here, outputs=drawn)
    chosen.change(partial(show, ui, parts), [chosen], drawn, trigger_mode="always_last", **QUEUED)
    parts.timer.tick(again, [parts.drawn], drawn, **QUEUED)
    parts.source.input(
        partial(change_source, ui, parts), [parts.source], [parts.source, parts.location, parts.revision], **QUEUED
    )
    given = [parts.source, parts.location, parts.revision, parts.name]
    cleared = [parts.said, parts.location, parts.revision, parts.name]
    parts.add.click(partial(add, ui, parts), given, cleared, **QUEUED).then(here, None, drawn, **QUEUED)
    parts.starter.click(partial(modeladding.add_starter, ui), None, None, **QUEUED).then(here, None, drawn, **QUEUED)
    parts.cancel.click(partial(cancel, ui), None, None, **QUEUED).then(here, None, drawn, **QUEUED)
    parts.seen.click(partial(put_away, ui), None, None, **QUEUED).then(here, None, drawn, **QUEUED)
    parts.sure.input(lambda sure: gr.update(interactive=sure), [parts.sure], [parts.remove], **QUEUED)
    parts.remove.click(partial(remove, ui, parts), [parts.drawn, parts.sure], drawn, **QUEUED)


def show(ui: Ui, parts: Parts, name: str | None) -> Updates:
    """Draw the list, the model of the address (the first one without), and the models on their way in."""
    with ui.store.read() as session:
        known = models.listing(session)
        jobs = watching.watched(session, modeladding.PAGE)
        wanted = name or (known[0].name if known else None)
        one = next((model for model in known if model.name == wanted), None)
        num_runs = modeladding.num_runs(session, one.name) if one else 0
    is_open = any(job.state not in FINAL for job in jobs)
    t = ui.t
    nothing = (
        empty(t("models.gone_title"), t("models.gone", name=name))
        if name
        else empty(t("models.empty_title"), t("models.empty"))
    )
    removable = one is not None and one.name != STARTER
    return {
        parts.list: modelcard.listing(known, one.name if one else None, t),
        parts.starter: gr.update(visible=not is_open and all(model.name != STARTER for model in known)),
        parts.arrivals: modelcard.arrivals(jobs, ui),
        parts.cancel: gr.update(visible=is_open),
        parts.seen: gr.update(visible=bool(jobs) and not is_open),
        parts.said: gr.skip(),
        parts.detail: modelcard.detail(one, num_runs, t) if one else nothing,
        parts.manage: gr.update(visible=removable),
        parts.sure: gr.update(value=False, label=t("models.sure_runs", n=num_runs) if num_runs else t("models.sure")),
        parts.remove: gr.update(interactive=False),
        parts.drawn: one.name if one else None,
        parts.timer: gr.update(active=is_open),
    }


def look_again(ui: Ui, parts: Parts, name: str | None, before: str | None) -> Updates:
    """Draw anew what may have changed; a confirmation that somebody is giving stays."""
    found = show(ui, parts, name)
    if found[parts.drawn] == before:
        found |= {one: gr.skip() for one in (parts.detail, parts.manage, parts.sure, parts.remove)}
    return found


def change_source(ui: Ui, parts: Parts, source: str) -> Updates:
    """Ask for a folder, or for a hub id and its revision."""
    t = ui.t
    return {
        parts.source: gr.update(info=t(f"models.where.{source}")),
        parts.location: gr.update(label=t(f"models.location.{source}"), placeholder=t(f"models.example.{source}")),
        parts.revision: gr.update(visible=source == "hub"),
    }


def add(ui: Ui, parts: Parts, source: str, *given: str | None) -> Updates:
    """Queue the job that adds a model."""
    location, revision, name = ((text or "").strip() for text in given)
    kept = {one: gr.skip() for one in (parts.location, parts.revision, parts.name)}
    try:
        modeladding.add(ui, {"source": source, "location": location, "revision": revision, "name": name})
    except ProblemError as error:
        found = (named(one, ui.t, at="add_model") for one in error.problems)
        return {**kept, parts.said: note(ui.t("refused"), problems(found, ui.t), tone="bad")}
    return {parts.said: Html(""), parts.location: "", parts.revision: "", parts.name: ""}


def cancel(ui: Ui) -> None:
    """Cancel what is on its way."""
    with ui.store.write() as session:
        watching.cancel(session, modeladding.PAGE)


def put_away(ui: Ui) -> None:
    """Stop showing the jobs that have ended."""
    with ui.store.write() as session:
        watching.put_away(session, modeladding.PAGE)


def remove(ui: Ui, parts: Parts, drawn: str | None, sure: bool) -> Updates:
    """Remove the model that is shown, after it was confirmed."""
    if drawn is None or not sure:
        return {parts.said: gr.skip()}
    try:
        modeladding.remove(ui, drawn)
    except StoreError as error:
        return {parts.said: refusal(error, ui.t)}
    said = note("", ui.t("models.removed", name=drawn), tone="good", action=moved("/models"))
    return {**show(ui, parts, None), parts.said: said}
