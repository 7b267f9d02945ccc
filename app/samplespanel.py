"""The Samples tab of a run: a step to choose, newest first, and what was answered in it. It keeps its own time, so
that what a person reads stays while the run goes on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from app import frame, ids, samplesview
from app.measure import number
from app.panel import Panel
from app.render import Html
from app.ui import Ui
from storage import jobs
from storage import samples as store_samples
from storage.errors import NotFound

TICK_S = 2.0
NEWEST = "newest"


@dataclass(frozen=True, slots=True)
class Parts:
    """The components of the tab."""

    tab: gr.Tab
    """Only there for runs that draw answers."""
    step: gr.Dropdown
    body: Panel
    seen: gr.State
    """What is shown, as a digest: a tick sends only what is different."""


def lay_out(ui: Ui) -> Parts:
    """Make the tab and its components."""
    with gr.Tab(ui.t("runs.tab.samples"), id="samples", visible=False) as tab:
        step = gr.Dropdown(
            [(ui.t("runs.samples_newest"), NEWEST)],
            value=NEWEST,
            label=ui.t("runs.samples_which"),
            filterable=False,
            visible=False,
            elem_id="at-run-sample-step",
        )
        return Parts(tab, step, Panel(elem_id="at-run-samples"), gr.State(""))


def connect(ui: Ui, parts: Parts, selected: gr.Textbox) -> None:
    """Show the chosen step of the selected run, and go on doing so."""
    outputs = [parts.tab, parts.step, parts.body, parts.seen]
    inputs = [selected, parts.step, parts.seen]
    frame.every(TICK_S, partial(refresh, ui, parts), inputs=inputs, outputs=outputs)
    parts.step.input(partial(refresh, ui, parts), inputs, outputs, **frame.QUIET)
    selected.change(partial(opened, ui, parts), [selected], outputs, **frame.QUIET)


def opened(ui: Ui, parts: Parts, selected: str) -> Any:
    """Show another run from its newest step on."""
    return refresh(ui, parts, selected, NEWEST, "")


def refresh(ui: Ui, parts: Parts, selected: str, step: str | None, seen: str) -> Any:
    """Read the samples and return what is different from what the tab shows."""
    run = ids.number(selected)
    body, steps, draws = Html(""), [], False
    with ui.store.read() as session:
        try:
            if run:
                job = jobs.get(session, run)
                draws = samplesview.draws(job)
                steps = store_samples.steps(session, run)
                body = samplesview.samples(ui.t, session, job, ids.number(str(step or "")))
        except NotFound:
            steps = []
    digest = hashlib.sha1(repr((run, step, steps, body, draws)).encode(), usedforsecurity=False).hexdigest()
    if digest == seen:
        return gr.skip()
    known = [NEWEST, *map(str, steps)]
    choices = [
        (ui.t("runs.samples_newest"), NEWEST),
        *((ui.t("runs.samples_at", step=number(at)), str(at)) for at in steps),
    ]
    chosen = step if step in known else NEWEST
    return {
        parts.tab: gr.update(visible=draws),
        parts.step: gr.update(choices=choices, value=chosen, visible=bool(steps)),
        parts.body: body,
        parts.seen: digest,
    }
