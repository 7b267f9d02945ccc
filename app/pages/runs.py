"""Runs: queue and history at the left, the chosen run at the right, live."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from app import draft, frame, removal, run_details, run_head, run_list
from app.curves import charts
from app.measure import size
from app.panel import Panel
from app.render import Html, button_link, empty, heading, note, tag
from app.run_list import Sparks
from app.ui import Ui
from storage import checkpoints, jobs
from storage.errors import Conflict, NotFound, StoreError
from storage.jobs import Job

TICK_S = 1.2
LONGEST_NAME = 120
WISHES = ("pause", "resume", "stop", "cancel", "retry")
Seen = dict[str, str]
Updates = dict[Any, Any]


@dataclass(frozen=True, slots=True)
class Parts:
    """The components of the page."""

    selected: gr.Textbox
    seen: gr.State
    """What each panel shows, as a digest: a tick sends only what is different."""
    armed: gr.State
    """The run whose deletion was asked for once."""
    list: Panel
    detail: gr.Column
    nothing: Panel
    head: Panel
    links: Panel
    said: Panel
    buttons: Mapping[str, gr.Button]
    name: gr.Textbox
    overlay: gr.Dropdown
    panels: Mapping[str, Panel]

    @property
    def shown(self) -> list[Any]:
        """All that a tick may change."""
        own = [self.seen, self.list, self.detail, self.nothing, self.head, self.links, self.overlay]
        return [*own, *self.buttons.values(), *self.panels.values()]


def build(ui: Ui) -> None:
    """Build the page."""
    _connect(ui, lay_out(ui))


def lay_out(ui: Ui) -> Parts:
    """Make the components and put them in their places."""
    t = ui.t
    Panel(heading(t("page.runs")))
    selected, seen, armed = frame.selection(), gr.State({}), gr.State(None)
    with gr.Row(elem_classes=["at-split"]):
        with gr.Column(elem_classes=["at-list"]):
            listed = Panel(elem_id="at-run-list")
        with gr.Column(elem_classes=["at-detail"]):
            nothing = Panel()
            with gr.Column(visible=False, elem_id="at-run") as detail:
                head, (links, buttons), name, said = Panel(elem_id="at-run-head"), _buttons(ui), _name(ui), Panel()
                overlay, panels = _tabs(ui)
    return Parts(selected, seen, armed, listed, detail, nothing, head, links, said, buttons, name, overlay, panels)


def _buttons(ui: Ui) -> tuple[Panel, dict[str, gr.Button]]:
    names = (*WISHES, "rename", "clone", "continue", "delete")
    with gr.Row(elem_classes=["at-buttons"]):
        links = Panel(elem_id="at-run-links")
        made = {
            name: gr.Button(ui.t(f"runs.do.{name}"), size="md" if name in WISHES else "sm", elem_id=f"at-do-{name}", visible=name in ("rename", "clone"))
            for name in names
        }
    return links, made


def _name(ui: Ui) -> gr.Textbox:
    return gr.Textbox(
        label=ui.t("runs.new_name"), max_lines=1, max_length=LONGEST_NAME, visible=False, submit_btn=ui.t("runs.save"), elem_id="at-run-name"
    )


def _tabs(ui: Ui) -> tuple[gr.Dropdown, dict[str, Panel]]:
    panels = {}
    with gr.Tabs():
        with gr.Tab(ui.t("runs.tab.curves"), id="curves"):
            panels["remarks"] = Panel(elem_id="at-run-remarks")
            with gr.Row(elem_classes=["at-overlay"]):
                Panel(tag("span", ui.t("runs.overlay")))
                overlay = gr.Dropdown([], multiselect=True, max_choices=7, label=ui.t("runs.overlay"), elem_id="at-run-overlay", container=False)
            panels["curves"] = Panel(elem_id="at-run-curves")
        for name in ("log", "checkpoints", "answers", "settings"):
            with gr.Tab(ui.t(f"runs.tab.{name}"), id=name):
                panels[name] = Panel(elem_id=f"at-run-{name}")
    return overlay, panels


def _connect(ui: Ui, parts: Parts) -> None:
    quiet: dict[str, Any] = {"show_progress": "hidden", "queue": False, "api_visibility": "private"}
    show = partial(refresh, ui, parts, Sparks())
    inputs = [parts.selected, parts.overlay, parts.seen]
    frame.on_load(partial(opened, ui, parts, show), outputs=[parts.selected, *parts.shown])
    frame.every(TICK_S, show, inputs=inputs, outputs=parts.shown)
    parts.selected.input(partial(chosen, ui, parts, show), [parts.selected, parts.seen], [*parts.shown, parts.armed, parts.said, parts.name], **quiet)
    parts.overlay.input(show, inputs, parts.shown, **quiet)
    for name in WISHES:
        parts.buttons[name].click(partial(ask, ui, parts, show, name), inputs, [*parts.shown, parts.said], **quiet)
    parts.buttons["rename"].click(partial(begin_rename, ui), [parts.selected], [parts.name], **quiet)
    parts.name.submit(partial(rename, ui, parts, show), [parts.name, *inputs], [*parts.shown, parts.name, parts.said], **quiet)
    parts.buttons["clone"].click(partial(clone, ui), [parts.selected], [parts.said], **quiet)
    parts.buttons["continue"].click(partial(go_on, ui), [parts.selected], [parts.said], **quiet)
    parts.buttons["delete"].click(
        partial(delete, ui, parts, show), [parts.armed, *inputs], [*parts.shown, parts.selected, parts.armed, parts.said], **quiet
    )


# --- showing -------------------------------------------------------------------------------------------------------


def opened(ui: Ui, parts: Parts, show: Any, request: gr.Request) -> Updates:
    """Show the run in the address, else the newest one, with the overlaid runs of the address."""
    query = request.query_params
    with ui.store.read() as session:
        newest = jobs.listing(session, kinds=["train"], limit=1)
    run = number_of(query.get("run")) or (newest[0].id if newest else None)
    overlaid = [text for text in query.get("with", "").split(",") if number_of(text)]
    updates = {**show(str(run or ""), overlaid, {}), parts.selected: str(run or "")}
    return updates


def chosen(ui: Ui, parts: Parts, show: Any, selected: str, seen: Seen) -> Updates:
    """Show another run: what was said about the last one goes."""
    calm = {parts.armed: None, parts.said: Html(""), parts.name: gr.update(visible=False)}
    return {**show(selected, [], {"list": seen.get("list", "")}), **calm}


def refresh(ui: Ui, parts: Parts, sparks: Sparks, selected: str, overlaid: Sequence[str], seen: Seen) -> Any:
    """Read the runs and return what is different from what the page shows."""
    now = time.time()
    run = number_of(selected)
    with ui.store.read() as session:
        found = run_list.entries(session, sparks)
        listed = {"list": run_list.listing(ui.t, found, run, now)}
        try:
            detail = _detail(ui, session, run, overlaid, now) if run else {}
        except NotFound:
            detail = {}
    missing = {} if detail else {"nothing": _nothing(ui, bool(found), run)}
    updates, digests = _changed(parts, {**listed, **missing, **detail}, seen)
    if not updates:
        return gr.skip()
    return {**updates, parts.seen: digests}


def _detail(ui: Ui, session: Any, run: int, overlaid: Sequence[str], now: float) -> dict[str, Any]:
    t, found = ui.t, run_head.standing(session, run)
    others = [job for text in overlaid for job in _other(session, text, run)]
    return {
        "head": run_head.head(ui, found, now),
        "links": run_head.links(t, found),
        "remarks": run_head.remarks(ui, found),
        "offers": tuple(run_head.offers(found.job).items()),
        "choices": (tuple(_choices(session, run)), tuple(str(job.id) for job in others)),
        "curves": charts([run, *(job.id for job in others)], found.job.spec, t),
        "log": run_details.happened(ui, session, found.job, now),
        "checkpoints": run_details.saved(t, session, found.job, now),
        "answers": run_details.answers(t, found.job),
        "settings": run_details.settings(t, found.job, others),
    }


def _other(session: Any, text: str, run: int) -> list[Job]:
    number = number_of(text)
    try:
        return [jobs.get(session, number)] if number and number != run else []
    except NotFound:
        return []


def _choices(session: Any, run: int) -> list[tuple[str, str]]:
    return [(f"{job.name} #{job.id}", str(job.id)) for job in jobs.listing(session, kinds=["train"], limit=50) if job.id != run]


def _nothing(ui: Ui, any_runs: bool, run: int | None) -> Html:
    if run:
        return empty(ui.t("runs.not_there", id=run), ui.t("runs.not_there_text"))
    return empty(ui.t("runs.none"), ui.t("runs.none_text"), button_link(ui.t("runs.none_do"), "/train", primary=True)) if not any_runs else Html("")


def _changed(parts: Parts, found: Mapping[str, Any], seen: Seen) -> tuple[Updates, Seen]:
    digests = {name: _digest(value) for name, value in found.items()}
    updates: Updates = {}
    for name in (name for name, digest in digests.items() if seen.get(name) != digest):
        updates |= _update(parts, name, found[name])
    if ("head" in digests) != ("head" in seen):
        updates |= {parts.detail: gr.update(visible="head" in digests), parts.nothing: gr.update(visible="head" not in digests)}
        if "nothing" in found:
            updates[parts.nothing] = Panel(found["nothing"], visible=True)
    return updates, digests


def _update(parts: Parts, name: str, value: Any) -> Updates:
    if name == "offers":
        return {parts.buttons[which]: gr.update(visible=offered) for which, offered in value}
    if name == "choices":
        choices, chosen = value
        return {parts.overlay: gr.update(choices=list(choices), value=list(chosen))}
    own = {"list": parts.list, "nothing": parts.nothing, "head": parts.head, "links": parts.links}
    return {own.get(name) or parts.panels[name]: value}


def _digest(value: Any) -> str:
    return hashlib.sha1(repr(value).encode(), usedforsecurity=False).hexdigest()


def number_of(text: str | None) -> int | None:
    """Return the id that a text names; None for anything else."""
    return int(text) if text and text.isascii() and text.isdecimal() and len(text) < 19 else None


# --- doing ---------------------------------------------------------------------------------------------------------


def ask(ui: Ui, parts: Parts, show: Any, name: str, selected: str, overlaid: list[str], seen: Seen) -> Updates:
    """Ask something of the chosen run, and show what became of it."""
    said = Html("")
    try:
        with ui.store.write() as session:
            run_head.wish(name)(session, int(selected))
    except (NotFound, Conflict) as error:
        said = _refused(ui, error)
    return _shown(show, selected, overlaid, seen) | {parts.said: said}


def _shown(show: Any, selected: str, overlaid: list[str], seen: Seen) -> Updates:
    updates = show(selected, overlaid, seen)
    return {key: value for key, value in updates.items() if not isinstance(key, str)}


def _refused(ui: Ui, error: StoreError) -> Html:
    return note("", ui.t.either(f"store.{error.code}", "store.refused", code=error.code, **error.values), tone="bad")


def begin_rename(ui: Ui, selected: str) -> Any:
    """Show the field for the new name."""
    with ui.store.read() as session:
        return gr.update(visible=True, value=jobs.get(session, int(selected)).name)


def rename(ui: Ui, parts: Parts, show: Any, name: str, selected: str, overlaid: list[str], seen: Seen) -> Updates:
    """Give the run its new name."""
    wanted = name.strip()[:LONGEST_NAME]
    if not wanted:
        return {parts.said: note("", ui.t("runs.name_empty"), tone="bad")}
    with ui.store.write() as session:
        jobs.rename(session, int(selected), wanted)
    return _shown(show, selected, overlaid, seen) | {parts.name: gr.update(visible=False), parts.said: Html("")}


def clone(ui: Ui, selected: str) -> Html:
    """Put the run's settings into the form of the Train page, and go there."""
    with ui.store.write() as session:
        draft.fill_from(session, jobs.get(session, int(selected)).spec)
    return frame.go("/train")


def go_on(ui: Ui, selected: str) -> Html:
    """Prepare a run that goes on from this one's best checkpoint with the same settings, and go to the Train page."""
    with ui.store.write() as session:
        job, best = jobs.get(session, int(selected)), checkpoints.best(session, int(selected))
        if best is None:
            return note("", ui.t("store.no_checkpoint", id=job.id), tone="bad")
        draft.fill_from(session, job.spec)
        draft.choose(session, {"model.start_from": f"{job.id}@{best.step}", "name": ui.t("runs.continued_name", name=job.name)[:LONGEST_NAME]})
    return frame.go("/train")


def delete(ui: Ui, parts: Parts, show: Any, armed: int | None, selected: str, overlaid: list[str], seen: Seen) -> Updates:
    """Delete the run at the second click; the first tells what goes with it."""
    run, button = int(selected), parts.buttons["delete"]
    calm = {parts.armed: None, button: gr.update(value=ui.t("runs.do.delete"), variant="secondary")}
    try:
        if armed != run:
            asked = ui.t("runs.delete_asked", size=size(removal.size_of(ui.store, ui.home, run)))
            return {parts.armed: run, button: gr.update(value=ui.t("runs.delete_sure"), variant="stop"), parts.said: note("", asked, tone="bad")}
        removal.delete_job(ui.store, ui.home, run)
    except (NotFound, Conflict) as error:
        return {**calm, parts.said: _refused(ui, error)}
    with ui.store.read() as session:
        newest = jobs.listing(session, kinds=["train"], limit=1)
    following = str(newest[0].id) if newest else ""
    return _shown(show, following, [], {}) | calm | {parts.selected: following, parts.said: Html("")}
