"""Data: files become datasets; what is in them, what is wrong with them, and what the model sees of each row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import gradio as gr

from app import (
    datacard,
    datapanes,
    dataview,
    doctorview,
    importcard,
    shapeform,
    tokencounts,
    tokenform,
    uploads,
    watching,
)
from app.datapanes import Do, Order, Panes
from app.dataview import Wanted
from app.doctorview import Doctor
from app.frame import QUIET, on_load, selection
from app.panel import Panel
from app.refusal import refusal
from app.render import Html, empty, heading, note
from app.shapeform import ShapeForm
from app.tokenform import TokenForm
from app.ui import Ui
from app.uploads import Upload
from engine.specs.problem import ProblemError
from storage import datasets
from storage.datasets import Version
from storage.errors import StoreError
from storage.states import FINAL

QUEUED: dict[str, Any] = {**QUIET, "queue": True}
LOOK_AGAIN_S = 0.5
POLICIES = ("keep_usable", "refuse")
Updates = dict[Any, Any]
Values = dict[Any, Any]
"""What components sent, by component."""
Before = tuple[str, int] | list[Any] | None


@dataclass(frozen=True, slots=True)
class Parts:
    """The components of the page."""

    file: gr.File
    name: gr.Textbox
    policy: gr.Radio
    hub: gr.Textbox
    fetch: gr.Button
    samples: gr.Button
    imports: Panel
    seen: gr.Button
    list: Panel
    head: Panel
    tokens: TokenForm
    counted: Panel
    """What is counted over all rows with the chosen model's tokenizer."""
    body: Panel
    pending: gr.State
    """The open question for tokens."""
    drawn: gr.State
    """Name and version id of the dataset that is shown."""
    timer: gr.Timer
    said: Panel
    manage: gr.Accordion
    shape: ShapeForm
    doctor: Doctor
    panes: Panes
    new_name: gr.Textbox
    rename: gr.Button
    sure: gr.Checkbox
    delete: gr.Button


def build(ui: Ui) -> None:
    """Lay the page out."""
    t = ui.t
    Panel(heading(t("page.data"), t("data.lead")))
    chosen = selection()
    with gr.Row(elem_classes=["at-split"]):
        with gr.Column(elem_classes=["at-list"]):
            file = gr.File(label=t("data.drop"), file_count="multiple", height=168, elem_id="data-file")
            with gr.Accordion(t("data.options"), open=False):
                name = gr.Textbox(label=t("field.import.name.label"), info=t("field.import.name.help"), max_lines=1)
                choices = [(t(f"choice.import.policy.{one}"), one) for one in POLICIES]
                policy = gr.Radio(
                    choices, value=POLICIES[0], label=t("field.import.policy.label"), info=t("field.import.policy.help")
                )
            with gr.Accordion(t("data.hub"), open=False):
                hub = gr.Textbox(
                    label=t("field.import.hub.label"), info=t("data.hub_help"), max_lines=1, elem_id="data-hub"
                )
                fetch = gr.Button(t("data.fetch"), size="sm", elem_id="data-fetch")
            samples = gr.Button(t("data.add_samples"), elem_id="add-samples", size="sm")
            listed = Panel(elem_id="datasets")
        with gr.Column(elem_classes=["at-detail"]):
            imports = Panel(elem_id="imports")
            seen = gr.Button(t("import.put_away"), size="sm", visible=False, elem_classes=["at-quiet"])
            said, head = Panel(elem_id="data-said"), Panel(elem_id="data-head")
            shape = shapeform.build(t)
            tokens, counted = tokenform.build(t), Panel(elem_id="data-counted")
            body = Panel(elem_id="data-body")
            doctor, panes = doctorview.build(t), datapanes.build(t)
            manage, managed = _manage(ui)
    timer = gr.Timer(LOOK_AGAIN_S, active=False)
    above = (file, name, policy, hub, fetch, samples, imports, seen, listed, head, tokens, counted)
    parts = Parts(*above, body, gr.State(), gr.State(), timer, said, manage, shape, doctor, panes, *managed)
    _wire(ui, parts, chosen)


def _manage(ui: Ui) -> tuple[gr.Accordion, tuple[gr.Textbox, gr.Button, gr.Checkbox, gr.Button]]:
    t = ui.t
    with gr.Accordion(t("data.manage"), open=False, visible=False) as manage:
        with gr.Row(elem_classes=["at-tools"]):
            new_name = gr.Textbox(label=t("data.new_name"), max_lines=1, elem_id="new-name")
            rename = gr.Button(t("data.rename"), size="md", elem_id="rename-dataset")
        with gr.Row(elem_classes=["at-tools"]):
            sure = gr.Checkbox(label=t("data.sure"), elem_id="delete-sure")
            delete = gr.Button(t("data.delete"), variant="stop", interactive=False, elem_id="delete-dataset")
    return manage, (new_name, rename, sure, delete)


def _wire(ui: Ui, parts: Parts, chosen: gr.Textbox) -> None:
    drawn: list[Any] = [parts.imports, parts.seen, parts.list, parts.head, parts.counted, parts.body]
    drawn += [parts.pending, parts.drawn, parts.timer, parts.manage, parts.sure, parts.delete, parts.said]
    drawn += [*parts.shape.all, *parts.doctor.all, *parts.panes.all, *parts.tokens.all]
    settings = set(parts.tokens.inputs)

    def here(values: Values, request: gr.Request) -> Updates:
        return show(ui, parts, Wanted.of(request.query_params, parts.tokens.chosen(values)))

    def elsewhere(values: Values) -> Updates:
        return show(ui, parts, Wanted.of(dict(parse_qsl(values[chosen])), parts.tokens.chosen(values)))

    def again(values: Values, request: gr.Request) -> Updates:
        wanted = Wanted.of(request.query_params, parts.tokens.chosen(values))
        return look_again(ui, parts, wanted, values[parts.drawn], values[parts.pending])

    on_load(here, inputs=settings, outputs=drawn)
    chosen.change(elsewhere, {chosen, *settings}, drawn, trigger_mode="always_last", **QUEUED)
    for one in parts.tokens.inputs:
        one.input(here, settings, drawn, trigger_mode="always_last", **QUEUED)
    parts.timer.tick(again, {parts.drawn, parts.pending, *settings}, drawn, **QUEUED)
    parts.file.upload(
        partial(upload, ui, parts),
        [parts.file, parts.name, parts.policy],
        [parts.file, parts.name, parts.said],
        **QUEUED,
    ).then(here, settings, drawn, **QUEUED)
    parts.fetch.click(
        partial(fetch_hub, ui, parts),
        [parts.hub, parts.name, parts.policy],
        [parts.hub, parts.name, parts.said],
        **QUEUED,
    ).then(here, settings, drawn, **QUEUED)
    parts.samples.click(partial(add_samples, ui), None, [parts.said], **QUEUED).then(here, settings, drawn, **QUEUED)
    parts.seen.click(partial(put_away, ui), None, None, **QUEUED).then(here, settings, drawn, **QUEUED)

    order = _ordering(ui, parts, drawn)
    doctor = parts.doctor
    orders: tuple[tuple[gr.Button, Do, list[Any]], ...] = (
        (doctor.examine, partial(doctorview.examine, ui), []),
        (doctor.clean, partial(doctorview.clean, ui), [doctor.found]),
        (doctor.divide, partial(doctorview.divide, ui), [doctor.held_out, doctor.hold_by]),
        (doctor.curve, partial(doctorview.learning_curve, ui), []),
    )
    for button, do, more in orders:
        order(button, do, more, parts.said, redraws=True)
    datapanes.wire(ui, parts.panes, parts.drawn, order)
    shape = parts.shape
    fields = [*shape.roles, *shape.options]
    shape.format.input(partial(shapeform.choose, ui, shape), [shape.subject, shape.format], fields, **QUEUED)
    shape.again.click(partial(read_again, ui), [shape.subject, shape.format, *fields], [parts.said], **QUEUED).then(
        here, settings, drawn, **QUEUED
    )
    parts.sure.input(lambda sure: gr.update(interactive=sure), [parts.sure], [parts.delete], **QUEUED)
    parts.rename.click(partial(rename, ui, parts), [parts.drawn, parts.new_name], [*drawn, parts.new_name], **QUEUED)
    parts.delete.click(partial(delete, ui, parts), [parts.drawn, parts.sure], drawn, **QUEUED)


def _ordering(ui: Ui, parts: Parts, drawn: list[Any]) -> Order:
    """What wires the buttons of the views."""

    def order(button: gr.Button, do: Do, more: Sequence[Any], said: Panel, *, redraws: bool) -> None:
        def done(values: Values, request: gr.Request) -> Updates:
            before, pending = values[parts.drawn], values[parts.pending]
            answer = ordered(ui, do, before, *(values[one] for one in more))
            wanted = Wanted.of(request.query_params, parts.tokens.chosen(values))
            redrawn = show(ui, parts, wanted) if redraws else look_again(ui, parts, wanted, before, pending)
            return {**redrawn, said: answer}

        button.click(done, {parts.drawn, parts.pending, *parts.tokens.inputs, *more}, drawn, **QUEUED)

    return order


def show(ui: Ui, parts: Parts, wanted: Wanted, pending: int | None = None) -> Updates:
    """Draw what the address asks for, and the imports that somebody waits for."""
    found, one = _above(ui, parts, wanted)
    if wanted.upload is not None or one is None:
        return {**found, **_nothing(ui, parts, wanted)}
    body, still = dataview.body(ui, one, wanted, pending)
    counted, counts = tokencounts.show(ui, one, wanted.view, wanted.tokens)
    return {
        **found,
        **tokenform.show(ui, parts.tokens, one, wanted.view, wanted.tokens),
        parts.counted: counted,
        parts.head: datacard.head(one, wanted.view, ui.t),
        parts.body: body,
        parts.pending: still,
        parts.drawn: (one.name, one.id),
        **shapeform.show(ui, parts.shape, shapeform.of_version(one)),
        **doctorview.show(ui, parts.doctor, one, wanted.view),
        **datapanes.show(ui, parts.panes, one, wanted.view),
        parts.manage: gr.update(visible=True),
        parts.sure: gr.update(value=False, label=dataview.sure_text(ui, one.name)),
        parts.delete: gr.update(interactive=False),
        parts.timer: gr.update(active=found[parts.timer]["active"] or counts or still is not None),
    }


def look_again(ui: Ui, parts: Parts, wanted: Wanted, before: Before, pending: int | None) -> Updates:
    """Draw anew what may have changed: the imports, the list, and the view if an answer or a new version is there."""
    found, one = _above(ui, parts, wanted)
    same = one is not None and before is not None and (one.name, one.id) == tuple(before)
    if not same:
        return show(ui, parts, wanted)
    assert one is not None
    kept: tuple[Any, ...] = (parts.head, parts.drawn, parts.manage, parts.sure, parts.delete, *parts.tokens.all)
    views = (*parts.shape.all, *parts.doctor.all, *parts.panes.all)
    rest: Updates = {component: gr.skip() for component in (*kept, *views)}
    counted, counts = tokencounts.show(ui, one, wanted.view, wanted.tokens)
    body, still = (gr.skip(), None) if pending is None else dataview.body(ui, one, wanted, pending)
    if pending is not None and still is None:
        rest |= doctorview.show(ui, parts.doctor, one, wanted.view)
        rest |= datapanes.show(ui, parts.panes, one, wanted.view)
    active = found[parts.timer]["active"] or counts or still is not None
    told = {parts.body: body, parts.pending: still, parts.counted: counted}
    return {**rest, **found, **told, parts.timer: gr.update(active=active)}


def _above(ui: Ui, parts: Parts, wanted: Wanted) -> tuple[Updates, Version | None]:
    """The imports and the list, and the dataset that the address means: without one, the newest."""
    with ui.store.read() as session:
        versions = datasets.listing(session)
        imports = [(job, dataview.made_by(session, job)) for job in watching.watched(session, uploads.PAGE)]
    named = wanted.dataset or (versions[0].name if versions else None)
    one = next((version for version in versions if version.name == named), None)
    if one is not None and wanted.version not in (None, one.version):
        one = _earlier(ui, one.name, wanted.version)
    is_open = any(job.state not in FINAL for job, _ in imports)
    found: Updates = {
        parts.imports: importcard.html(imports, ui),
        parts.seen: gr.update(visible=bool(imports) and not is_open),
        parts.list: datacard.listing(versions, one.name if one and wanted.upload is None else None, ui.t),
        parts.timer: gr.update(active=is_open),
        parts.said: gr.skip(),
    }
    return found, one


def _earlier(ui: Ui, name: str, version: int | None) -> Version | None:
    with ui.store.read() as session:
        return next((one for one in datasets.versions(session, name) if one.version == version), None)


def _nothing(ui: Ui, parts: Parts, wanted: Wanted) -> Updates:
    gone = wanted.dataset is not None
    text = ui.t("data.not_there", name=wanted.dataset) if gone else ui.t("data.empty")
    upload = shapeform.known(ui, ("import", wanted.upload)) if wanted.upload is not None else None
    nothing = empty(ui.t("data.gone_title" if gone else "data.empty_title"), text)
    return {
        **tokenform.show(ui, parts.tokens, None, wanted.view, wanted.tokens),
        **shapeform.show(ui, parts.shape, upload),
        **doctorview.show(ui, parts.doctor, None, wanted.view),
        **datapanes.show(ui, parts.panes, None, wanted.view),
        parts.head: Html(""),
        parts.counted: Html(""),
        parts.body: Html("") if upload is not None else nothing,
        parts.pending: None,
        parts.drawn: None,
        parts.manage: gr.update(visible=False),
        parts.sure: False,
        parts.delete: gr.update(interactive=False),
    }


def upload(ui: Ui, parts: Parts, paths: list[str] | None, name: str | None, policy: str) -> Updates:
    """Take dropped files in and queue their import as one dataset."""
    if not paths:
        return {parts.file: None, parts.name: gr.skip(), parts.said: gr.skip()}
    said = Html("")
    try:
        uploads.take_in(ui, Upload([Path(one) for one in paths], (name or "").strip(), policy))
    except ProblemError as error:
        said = refusal(error, ui.t)
    finally:
        for one in paths:
            uploads.forget_original(ui, Path(one))
    return {parts.file: None, parts.name: "", parts.said: said}


def fetch_hub(ui: Ui, parts: Parts, hub: str | None, name: str | None, policy: str) -> Updates:
    """Queue the import of a dataset of the hub."""
    try:
        uploads.fetch(ui, (hub or "").strip(), (name or "").strip(), policy)
    except ProblemError as error:
        return {parts.hub: gr.skip(), parts.name: gr.skip(), parts.said: refusal(error, ui.t)}
    return {parts.hub: "", parts.name: "", parts.said: Html("")}


def add_samples(ui: Ui) -> Html:
    """Queue the import of the sample datasets."""
    try:
        uploads.add_samples(ui)
    except ProblemError as error:
        return refusal(error, ui.t)
    return Html("")


def read_again(ui: Ui, subject: shapeform.Subject | None, kind: str, *values: str | None) -> Html:
    """Read the file that is shown again, with the format and the columns that were chosen."""
    try:
        job = shapeform.read_again(ui, subject, kind, values)
    except ProblemError as error:
        return refusal(error, ui.t)
    return note("", ui.t("shape.queued", name=job.name), tone="good", action=dataview.moved("/data"))


def ordered(ui: Ui, do: Do, drawn: Before, *values: Any) -> Html:
    """Do what was asked with the version that is shown, and return what there is to say of it."""
    if drawn is None:
        return Html("")
    try:
        return do(drawn[1], *values) or Html("")
    except (ProblemError, StoreError) as error:
        return refusal(error, ui.t)


def put_away(ui: Ui) -> None:
    """Stop showing the imports that have ended."""
    with ui.store.write() as session:
        watching.put_away(session, uploads.PAGE)


def rename(ui: Ui, parts: Parts, drawn: Before, new_name: str | None) -> Updates:
    """Give the dataset that is shown another name."""
    if drawn is None:
        return {parts.said: gr.skip()}
    try:
        name = dataview.rename(ui, drawn[0], new_name or "")
    except (ProblemError, StoreError) as error:
        return {parts.said: refusal(error, ui.t)}
    moved = dataview.moved(datacard.address(dataset=name))
    said = note("", ui.t("data.renamed", name=name), tone="good", action=moved)
    return {**show(ui, parts, Wanted(dataset=name)), parts.new_name: "", parts.said: said}


def delete(ui: Ui, parts: Parts, drawn: Before, sure: bool) -> Updates:
    """Delete the dataset that is shown with its files, after it was confirmed."""
    if drawn is None or not sure:
        return {parts.said: gr.skip()}
    try:
        dataview.delete(ui, drawn[0])
    except StoreError as error:
        return {parts.said: refusal(error, ui.t)}
    said = note("", ui.t("data.deleted", name=drawn[0]), tone="good", action=dataview.moved("/data"))
    return {**show(ui, parts, Wanted()), parts.said: said}
