"""Queue: what runs where, what waits in which order and until when, and what failed lately."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from app import frame, queueorders, queuestate, queueview
from app.panel import Panel
from app.queuestate import Paces
from app.refusal import refusal
from app.render import Html, heading
from app.ui import Ui
from storage.errors import StoreError

TICK_S = 1.5
Seen = dict[str, str]
Updates = dict[Any, Any]


@dataclass(frozen=True, slots=True)
class Parts:
    """The components of the page."""

    order: gr.Textbox
    seen: gr.State
    """What each panel shows, as a digest: a tick sends only what is different."""
    said: Panel
    running: Panel
    waiting: Panel
    failed: Panel
    crew: Panel

    @property
    def shown(self) -> list[Any]:
        """All that a tick may change."""
        return [self.seen, self.running, self.waiting, self.failed, self.crew]


def build(ui: Ui) -> None:
    """Build the page."""
    parts, paces = lay_out(ui), Paces()
    show = partial(refresh, ui, parts, paces)
    frame.on_load(show, inputs=[parts.seen], outputs=parts.shown)
    frame.every(TICK_S, show, inputs=[parts.seen], outputs=parts.shown)
    parts.order.change(
        partial(obey, ui, parts, paces), [parts.order, parts.seen], [*parts.shown, parts.said], **frame.QUIET
    )


def lay_out(ui: Ui) -> Parts:
    """Make the components and put them in their places."""
    Panel(heading(ui.t("page.queue"), ui.t("queue.lead")))
    order, seen = frame.orders(), gr.State({})
    said = Panel(elem_id="at-queue-said")
    with gr.Row(elem_classes=["at-split"]):
        with gr.Column(elem_classes=["at-detail"]):
            running, waiting = Panel(elem_id="at-queue-running"), Panel(elem_id="at-queue-waiting")
            failed = Panel(elem_id="at-queue-failed")
        with gr.Column(elem_classes=["at-aside-column"]):
            crew = Panel(elem_id="at-queue-crew")
    return Parts(order, seen, said, running, waiting, failed, crew)


def refresh(ui: Ui, parts: Parts, paces: Paces, seen: Seen) -> Any:
    """Read the queue and return what is different from what the page shows."""
    now = time.time()
    with ui.store.read() as session:
        scene = queuestate.read(session, paces, now)
    drawn: dict[Panel, Html] = {
        parts.running: queueview.running(ui, scene, now),
        parts.waiting: queueview.lanes(ui, scene, now),
        parts.failed: queueview.late(ui, scene, now),
        parts.crew: queueview.crew(ui.t, scene, now),
    }
    digests = {str(panel.elem_id): _digest(value) for panel, value in drawn.items()}
    updates: Updates = {
        panel: value for panel, value in drawn.items() if seen.get(str(panel.elem_id)) != _digest(value)
    }
    return {**updates, parts.seen: digests} if updates else gr.skip()


def obey(ui: Ui, parts: Parts, paces: Paces, order: str, seen: Seen) -> Updates:
    """Carry out a button's order, and show what became of it."""
    said = Html("")
    try:
        with ui.store.write() as session:
            to = queueorders.obey(session, order)
    except StoreError as error:
        said = refusal(error, ui.t)
    else:
        said = frame.go(to) if to else said
    updates = refresh(ui, parts, paces, seen)
    found = updates if parts.seen in updates else {}
    return {**found, parts.said: said}


def _digest(value: Html) -> str:
    return hashlib.sha1(value.encode(), usedforsecurity=False).hexdigest()
