"""The webhook on the Settings page: its address, whether it may be used, and what became of the last news."""

from __future__ import annotations

import os
import time
from typing import Any

import gradio as gr

from app.measure import when
from app.refusal import refusal
from app.render import Html, card, chip, note, tag
from app.ui import Ui
from engine.specs import outside
from engine.specs.problem import ProblemError
from storage import notices, settings


def save(ui: Ui, url: str) -> tuple[Any, ...]:
    """Keep an address whose host is on the list of the environment."""
    try:
        outside.check(url.strip(), _allowed(), outside.WEBHOOK_ALLOW)
    except ProblemError as error:
        return (_card(ui, refusal(error, ui.t)), gr.skip(), gr.skip())
    with ui.store.write() as session:
        settings.put(session, notices.WEBHOOK, url.strip())
    return shown(ui, "settings.webhook.saved")


def remove(ui: Ui) -> tuple[Any, ...]:
    """Tell nobody any more."""
    with ui.store.write() as session:
        settings.put(session, notices.WEBHOOK, None)
    return shown(ui, "settings.webhook.removed")


def shown(ui: Ui, said: str = "") -> tuple[Any, ...]:
    """Return the card, the address, and whether it can be removed."""
    url = _url(ui)
    news = note("", ui.t(said), tone="good") if said else Html("")
    return _card(ui, news), url or "", gr.update(visible=url is not None)


def _allowed() -> frozenset[str]:
    return outside.allowed(os.environ, outside.WEBHOOK_ALLOW)


def _url(ui: Ui) -> str | None:
    with ui.store.read() as session:
        found = settings.get(session, notices.WEBHOOK)
    return str(found) if found else None


def _card(ui: Ui, news: Html) -> Html:
    t, allow = ui.t, _allowed()
    is_set = _url(ui) is not None
    mark = chip(t("settings.is_set" if is_set else "settings.not_set"), "good" if is_set else "plain")
    listed = t("settings.webhook.list", hosts=", ".join(sorted(allow))) if allow else t("settings.webhook.no_list")
    text = tag("p", t("settings.webhook.help"), " ", listed, cls="at-soft")
    return card(text, _last(ui), news, title=t("settings.webhook"), aside=mark)


def _last(ui: Ui) -> Html:
    """Return what became of the last news, if there was any."""
    with ui.store.read() as session:
        event = notices.last(session)
    if event is None:
        return Html("")
    told = {"id": event.job_id, "at": when(ui.t, event.at, time.time()), **event.data}
    tone = "good" if event.kind == notices.NOTIFIED else "bad"
    return note("", ui.t(f"settings.webhook.{event.kind}", **told), tone=tone)
