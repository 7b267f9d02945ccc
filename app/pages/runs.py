"""Runs: queue and history at the left, the chosen run at the right, live."""

from __future__ import annotations

from functools import partial
from typing import Any

import gradio as gr

from app import frame, run_actions, run_page, samplespanel
from app.panel import Panel
from app.render import heading, tag
from app.run_list import Sparks
from app.run_page import Page, Parts
from app.ui import Ui

TICK_S = 2.0
WISHES = ("pause", "resume", "stop", "cancel", "retry")


def build(ui: Ui) -> None:
    """Build the page."""
    _connect(ui, lay_out(ui))


def lay_out(ui: Ui) -> Parts:
    """Make the components and put them in their places."""
    t = ui.t
    Panel(heading(t("page.runs")))
    selected, order, seen, armed = frame.selection(), frame.orders(), gr.State({}), gr.State(None)
    with gr.Row(elem_classes=["at-split"]):
        with gr.Column(elem_classes=["at-list"]):
            listed = Panel(elem_id="at-run-list")
        with gr.Column(elem_classes=["at-detail"]):
            nothing = Panel()
            with gr.Column(visible=False, elem_id="at-run") as detail:
                head, (links, buttons), name, said = Panel(elem_id="at-run-head"), _buttons(ui), _name(ui), Panel()
                overlay, panels, samples = _tabs(ui)
    samplespanel.connect(ui, samples, selected)
    fixed = (selected, order, seen, armed, listed, detail, nothing)
    return Parts(*fixed, head, links, said, buttons, name, overlay, panels)


def _buttons(ui: Ui) -> tuple[Panel, dict[str, gr.Button]]:
    names = (*WISHES, "rename", "clone", "continue", "delete")
    with gr.Row(elem_classes=["at-buttons"]):
        links = Panel(elem_id="at-run-links")
        made = {
            name: gr.Button(
                ui.t(f"runs.do.{name}"),
                size="md" if name in WISHES else "sm",
                elem_id=f"at-do-{name}",
                visible=name in ("rename", "clone"),
            )
            for name in names
        }
    return links, made


def _name(ui: Ui) -> gr.Textbox:
    return gr.Textbox(
        label=ui.t("runs.new_name"),
        max_lines=1,
        max_length=run_actions.LONGEST_NAME,
        visible=False,
        submit_btn=ui.t("runs.save"),
        elem_id="at-run-name",
    )


def _tabs(ui: Ui) -> tuple[gr.Dropdown, dict[str, Panel], samplespanel.Parts]:
    panels = {}
    with gr.Tabs():
        with gr.Tab(ui.t("runs.tab.curves"), id="curves"):
            panels["remarks"] = Panel(elem_id="at-run-remarks")
            with gr.Row(elem_classes=["at-overlay"]):
                Panel(tag("span", ui.t("runs.overlay")))
                overlay = gr.Dropdown(
                    [],
                    multiselect=True,
                    max_choices=7,
                    label=ui.t("runs.overlay"),
                    elem_id="at-run-overlay",
                    container=False,
                )
            panels["curves"] = Panel(elem_id="at-run-curves")
        samples = samplespanel.lay_out(ui)
        for name in ("log", "checkpoints", "answers", "settings"):
            with gr.Tab(ui.t(f"runs.tab.{name}"), id=name):
                panels[name] = Panel(elem_id=f"at-run-{name}")
    return overlay, panels, samples


def _connect(ui: Ui, parts: Parts) -> None:
    page = Page(ui, parts, Sparks())
    show = partial(run_page.refresh, page)
    inputs = [parts.selected, parts.overlay, parts.seen]
    calm = [parts.armed, parts.said, parts.name]
    frame.on_load(partial(run_page.opened, page), outputs=[parts.selected, *parts.shown])
    frame.every(TICK_S, show, inputs=inputs, outputs=parts.shown)
    parts.selected.input(
        partial(run_page.chosen, page), [parts.selected, parts.seen], [*parts.shown, *calm], **frame.QUIET
    )
    parts.overlay.input(show, inputs, parts.shown, **frame.QUIET)
    for name in WISHES:
        asked = partial(run_actions.ask, page, name)
        parts.buttons[name].click(asked, inputs, [*parts.shown, parts.said], **frame.QUIET)
    mended = partial(run_actions.mend, page)
    parts.order.change(mended, [parts.order, *inputs], [*parts.shown, parts.said], **frame.QUIET)
    _connect_others(page, inputs)


def _connect_others(page: Page, inputs: list[Any]) -> None:
    parts, buttons, ui = page.parts, page.parts.buttons, page.ui
    begun = [parts.name, parts.said]
    buttons["rename"].click(partial(run_actions.begin_rename, page), [parts.selected], begun, **frame.QUIET)
    renamed = [*parts.shown, parts.name, parts.said]
    parts.name.submit(partial(run_actions.rename, page), [parts.name, *inputs], renamed, **frame.QUIET)
    buttons["clone"].click(partial(run_actions.clone, ui), [parts.selected], [parts.said], **frame.QUIET)
    buttons["continue"].click(partial(run_actions.go_on, ui), [parts.selected], [parts.said], **frame.QUIET)
    deleted = [*parts.shown, parts.selected, parts.armed, parts.said]
    buttons["delete"].click(partial(run_actions.delete, page), [parts.armed, parts.selected], deleted, **frame.QUIET)
