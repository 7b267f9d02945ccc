"""What the Runs page shows: read from the store at each tick, and sent only where it differs from what is shown."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from app import ids, run_details, run_head, run_list
from app.curves import charts, task_curves
from app.panel import Panel
from app.render import Html, button_link, empty
from app.run_list import Sparks
from app.ui import Ui
from storage import jobs
from storage.errors import NotFound
from storage.jobs import Job
from storage.states import FINAL

Seen = dict[str, str]
Updates = dict[Any, Any]


@dataclass(frozen=True, slots=True)
class Parts:
    """The components of the page."""

    selected: gr.Textbox
    order: gr.Textbox
    """What a button of a failure card asks for."""
    seen: gr.State
    """What each panel shows, as a digest: a tick sends only what is different."""
    armed: gr.State
    """The run whose deletion was asked for once."""
    runs: Panel
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
        own = [self.seen, self.runs, self.detail, self.nothing, self.head, self.links, self.overlay]
        return [*own, *self.buttons.values(), *self.panels.values()]


@dataclass(frozen=True, slots=True)
class Page:
    """What every handler of the page works with."""

    ui: Ui
    parts: Parts
    sparks: Sparks


def opened(page: Page, request: gr.Request) -> Updates:
    """Show the run in the address, else the newest one, with the overlaid runs of the address."""
    query = request.query_params
    with page.ui.store.read() as session:
        newest = jobs.listing(session, kinds=["train"], limit=1)
    run = ids.number(query.get("run")) or (newest[0].id if newest else None)
    overlaid = [text for text in query.get("with", "").split(",") if ids.number(text)]
    updates = {**refresh(page, str(run or ""), overlaid, {}), page.parts.selected: str(run or "")}
    return updates


def chosen(page: Page, selected: str, seen: Seen) -> Updates:
    """Show another run: what was said about the last one goes."""
    calm = {page.parts.armed: None, page.parts.said: Html(""), page.parts.name: gr.update(visible=False)}
    return {**refresh(page, selected, [], {"list": seen.get("list", "")}), **calm}


def refresh(page: Page, selected: str, overlaid: Sequence[str], seen: Seen) -> Any:
    """Read the runs and return what is different from what the page shows."""
    ui, parts, now = page.ui, page.parts, time.time()
    run = ids.number(selected)
    with ui.store.read() as session:
        found = run_list.entries(session, page.sparks)
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
        "curves": _curves(ui, session, found, [run, *(job.id for job in others)]),
        "log": run_details.happened(ui, session, found.job, now),
        "checkpoints": run_details.saved(t, session, found.job, now),
        "answers": run_details.answers(t, found.job),
        "settings": run_details.settings(t, found.job, others),
    }


def _curves(ui: Ui, session: Any, found: run_head.Standing, runs: Sequence[int]) -> Html:
    """The charts; none for a run that ended before its first point."""
    if found.job.state in FINAL and not found.latest:
        return Html("")
    return charts(runs, found.job.spec, ui.t, task_curves(session, runs[0]))


def _other(session: Any, text: str, run: int) -> list[Job]:
    number = ids.number(text)
    try:
        return [jobs.get(session, number)] if number and number != run else []
    except NotFound:
        return []


def _choices(session: Any, run: int) -> list[tuple[str, str]]:
    return [
        (f"{job.name} #{job.id}", str(job.id))
        for job in jobs.listing(session, kinds=["train"], limit=50)
        if job.id != run
    ]


def _nothing(ui: Ui, any_runs: bool, run: int | None) -> Html:
    if run:
        return empty(ui.t("runs.not_there", id=run), ui.t("runs.not_there_text"))
    return (
        empty(ui.t("runs.none"), ui.t("runs.none_text"), button_link(ui.t("runs.none_do"), "/train", primary=True))
        if not any_runs
        else Html("")
    )


def _changed(parts: Parts, found: Mapping[str, Any], seen: Seen) -> tuple[Updates, Seen]:
    digests = {name: _digest(value) for name, value in found.items()}
    updates: Updates = {}
    for name in (name for name, digest in digests.items() if seen.get(name) != digest):
        updates |= _update(parts, name, found[name])
    if ("head" in digests) != ("head" in seen):
        updates |= {
            parts.detail: gr.update(visible="head" in digests),
            parts.nothing: gr.update(visible="head" not in digests),
        }
        if "nothing" in found:
            updates[parts.nothing] = Panel(found["nothing"], visible=True)
    return updates, digests


def _update(parts: Parts, name: str, value: Any) -> Updates:
    if name == "offers":
        return {parts.buttons[which]: gr.update(visible=offered) for which, offered in value}
    if name == "choices":
        choices, chosen = value
        return {parts.overlay: gr.update(choices=list(choices), value=list(chosen))}
    own = {"list": parts.runs, "nothing": parts.nothing, "head": parts.head, "links": parts.links}
    return {own.get(name) or parts.panels[name]: value}


def _digest(value: Any) -> str:
    return hashlib.sha1(repr(value).encode(), usedforsecurity=False).hexdigest()
