"""Disk: what takes how much and what of it can go; the store's backup and its check."""

from __future__ import annotations

import time
from functools import partial

import gradio as gr

from app import diskorders, diskuse, diskview, frame
from app.panel import Panel
from app.refusal import refusal
from app.render import Html, heading
from app.ui import Ui
from storage.errors import StoreError


def build(ui: Ui) -> None:
    """Lay the page out."""
    Panel(heading(ui.t("page.disk"), ui.t("disk.lead")))
    order, armed = frame.orders(), gr.State("")
    said, shown = Panel(elem_id="at-disk-said"), Panel(elem_id="at-disk")
    frame.on_load(partial(show, ui), outputs=[shown])
    order.change(partial(obey, ui), [order, armed], [shown, said, armed], **frame.QUIET)


def show(ui: Ui, armed: str = "") -> Html:
    """Measure the home and draw it."""
    with ui.store.read() as session:
        use = diskuse.read(session, ui.home)
    return diskview.page(ui.t, use, armed, time.time())


def obey(ui: Ui, order: str, armed: str) -> tuple[Html, Html, str]:
    """Carry out a button's order; one that destroys something at its second click."""
    asked = ":".join(order.split(":")[:2])
    if order.split(":")[0] in diskorders.SURE and asked != armed:
        with ui.store.read() as session:
            use = diskuse.read(session, ui.home)
        return diskview.page(ui.t, use, asked, time.time()), diskview.sure(ui.t, use, asked), asked
    try:
        said = diskorders.obey(ui, order)
    except StoreError as error:
        said = refusal(error, ui.t)
    return show(ui), said, ""
