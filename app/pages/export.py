"""Export: a checkpoint becomes files that others can load, offered only after they were loaded back and compared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr
from sqlalchemy.orm import Session

from app import exports, exportview, ids, removal, talk
from app.conversation import name_of
from app.frame import QUIET, every, on_load, orders, selection
from app.panel import Panel
from app.refusal import refusal
from app.render import Html
from app.ui import Ui
from engine.exporters import EXPORTERS
from engine.exporters.limits import LIMITS
from engine.specs.problem import ProblemError
from storage import drafts, jobs
from storage.errors import NotFound, StoreError
from storage.jobs import Job
from storage.targets import BASE

PAGE = "export"
LOOK_S = 1.0
MOST_LISTED = 60
Updates = dict[Any, Any]


@dataclass(frozen=True, slots=True)
class Parts:
    """The components of the page."""

    list: Panel
    form: gr.Column
    target: gr.Dropdown
    kind: gr.Radio
    base: gr.Radio
    meaning: Panel
    start: gr.Button
    said: Panel
    detail: Panel
    seen: gr.State
    """What is drawn, so that a look that finds nothing new changes nothing."""


def build(ui: Ui) -> None:
    """Lay the page out."""
    chosen = selection()
    order = orders()
    parts = _layout(ui)
    choice: list[Any] = [parts.target, parts.kind, parts.base]
    everything = [getattr(parts, name) for name in Parts.__dataclass_fields__]
    for one in choice:
        one.input(partial(choose, ui, parts), choice, [parts.kind, parts.base, parts.meaning, parts.said], **QUIET)
    started = parts.start.click(partial(start, ui), choice, [chosen, parts.said], **QUIET)
    started.then(partial(show, ui, parts), chosen, everything, **QUIET)
    chosen.change(partial(show, ui, parts), chosen, everything, **QUIET)
    obeyed = order.change(partial(obey, ui), [order, chosen], [chosen, parts.said], **QUIET)
    obeyed.then(partial(show, ui, parts), chosen, everything, **QUIET)

    def opened(request: gr.Request) -> Updates:
        asked = request.query_params
        number = asked.get("export", "")
        return {**show(ui, parts, number, target=asked.get("target")), chosen: number}

    on_load(opened, outputs=[chosen, *everything])
    every(LOOK_S, partial(look, ui, parts), inputs=[chosen, parts.seen], outputs=[parts.list, parts.detail, parts.seen])


def _layout(ui: Ui) -> Parts:
    t = ui.t
    with gr.Row(elem_classes=["at-split"]):
        with gr.Column(elem_classes=["at-list"]):
            Panel(exportview.top(t))
            listed = Panel(elem_id="at-exports")
        with gr.Column(elem_classes=["at-detail"]):
            with gr.Column(visible=False) as form:
                target = gr.Dropdown(
                    [], label=t("field.export.target.label"), info=t("export.target.help"), elem_id="at-export-target"
                )
                kinds = [(t(f"export.form.{one}"), one) for one in EXPORTERS]
                kind = gr.Radio(kinds, value="merged", label=t("field.export.form.label"), elem_id="at-export-form")
                bases = [(t(f"export.base.{one}"), one) for one in LIMITS]
                base = gr.Radio(bases, value="trained", label=t("field.export.base.label"), elem_id="at-export-base")
                meaning = Panel(elem_id="at-export-meaning")
                with gr.Row(elem_classes=["at-buttons"]):
                    start_button = gr.Button(t("export.start"), variant="primary", elem_id="at-export-start")
            said, detail = Panel(elem_id="at-export-said"), Panel(elem_id="at-export-detail")
    return Parts(listed, form, target, kind, base, meaning, start_button, said, detail, gr.State(()))


def choose(ui: Ui, parts: Parts, target: str | None, kind: str, base: str) -> Updates:
    """Offer the forms and bases that fit the checkpoint, and say what the choice means."""
    with ui.store.write() as session:
        drafts.put(session, PAGE, {"target": target, "kind": kind, "base": base})
        return _offer(ui, session, parts, (target, kind, base)) | {parts.said: None}


def start(ui: Ui, target: str | None, kind: str, base: str) -> tuple[Any, Html | None]:
    """Queue the export; a second click on the same finds it under way."""
    try:
        with ui.store.write() as session:
            job = exports.submit(session, {"target": target or "", "form": kind, "base": base})
    except (ProblemError, StoreError) as error:
        return gr.skip(), refusal(error, ui.t)
    return str(job.id), None


def show(ui: Ui, parts: Parts, chosen: str, *, target: str | None = None) -> Updates:
    """Draw the page for its address: an export, or the form for a new one."""
    with ui.store.read() as session:
        job = _job(session, chosen)
        updates: Updates = dict(_drawn(ui, session, parts, job))
        kept = drafts.get(session, PAGE)
        wanted = kept.get("target")
        if target:
            wanted, updates[parts.said] = _named(ui, session, target)
        known = talk.choices(session, ui.t, also=[wanted], silent=True)
        options = [one for one in known if not one[1].startswith(BASE)]
        values = [value for _, value in options]
        if wanted not in values:
            wanted = None if target else next(iter(values), None)
        given = (wanted, str(kept.get("kind", "merged")), str(kept.get("base", "trained")))
        updates |= _offer(ui, session, parts, given)
    updates[parts.target] = gr.update(choices=options, value=wanted)
    updates[parts.form] = gr.update(visible=job is None and bool(options))
    if job is None and not options:
        updates[parts.detail] = exportview.nothing(ui.t)
    return updates


def look(ui: Ui, parts: Parts, chosen: str, seen: Any) -> Updates:
    """Draw what has changed."""
    with ui.store.read() as session:
        drawn = _drawn(ui, session, parts, _job(session, chosen))
    return {parts.seen: gr.skip()} if list(drawn[parts.seen]) == list(seen) else drawn


def obey(ui: Ui, order: str, chosen: str) -> tuple[Any, Html | None]:
    """Carry out a button of the detail: `verb:id`, and a number that tells two equal orders apart."""
    verb, _, rest = order.partition(":")
    number = ids.number(rest.partition(":")[0])
    if verb not in ORDERS or number is None:
        return gr.skip(), None
    try:
        ORDERS[verb](ui, number)
    except StoreError as error:
        return gr.skip(), refusal(error, ui.t)
    return ("" if verb == "delete" else chosen), None


def _cancel(ui: Ui, job_id: int) -> None:
    with ui.store.write() as session:
        jobs.cancel(session, job_id)


def _delete(ui: Ui, job_id: int) -> None:
    """Delete an export, and nothing else whatever number was sent."""
    with ui.store.read() as session:
        if jobs.get(session, job_id).kind != PAGE:
            return
    removal.delete_job(ui.store, ui.home, job_id)


ORDERS: dict[str, Callable[[Ui, int], None]] = {"cancel": _cancel, "delete": _delete}


def _job(session: Session, chosen: str) -> Job | None:
    number = ids.number(chosen)
    try:
        found = jobs.get(session, number) if number is not None else None
    except StoreError:
        return None
    return found if found is not None and found.kind == PAGE else None


def _drawn(ui: Ui, session: Session, parts: Parts, job: Job | None) -> Updates:
    found = jobs.listing(session, kinds=[PAGE], limit=MOST_LISTED)
    listed = exportview.listing(found, job.id if job else None, ui.t)
    shown = exportview.detail(ui, job, name_of(session, str(job.spec["target"]), ui.t)) if job else None
    return {parts.list: listed, parts.detail: shown, parts.seen: (str(listed), str(shown))}


def _offer(ui: Ui, session: Session, parts: Parts, given: tuple[str | None, str, str]) -> Updates:
    target, kind, base = given
    if target is None:
        return {parts.meaning: None}
    try:
        found = talk.find(session, target)
    except StoreError as error:
        return {parts.meaning: refusal(error, ui.t)}
    t = ui.t
    forms, bases = exports.choices_for(session, found)
    kind = kind if kind in forms else forms[0]
    base = base if base in bases else bases[0]
    shown = len(bases) > 1 and kind == "merged"
    return {
        parts.kind: gr.update(choices=[(t(f"export.form.{one}"), one) for one in forms], value=kind),
        parts.base: gr.update(value=base, visible=shown),
        parts.meaning: exportview.meaning(kind, base if shown else "trained", bases, t, head=found.head),
    }


def _named(ui: Ui, session: Session, target: str) -> tuple[str | None, Html | None]:
    """The checkpoint that the address names, or why there is none: nothing else is chosen instead."""
    try:
        found = talk.find(session, target)
        if found.job_id is None:
            raise NotFound("target", target)
    except StoreError as error:
        return None, refusal(error, ui.t)
    return found.text, None
