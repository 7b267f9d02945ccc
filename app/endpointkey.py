"""The key of a model server on the Settings page: its host is shown, the key never again."""

from __future__ import annotations

import json
import os
import re
from typing import Any

import gradio as gr

from app import secret
from app.render import Html, card, chip, note, tag
from app.ui import Ui
from engine.specs import outside

HOST = re.compile(r"[A-Za-z0-9._-]{1,253}")


def save(ui: Ui, host: str, key: str) -> tuple[Any, ...]:
    """Keep a key with the host that it is for, in a file that only its owner can read."""
    host, key = host.strip().lower(), key.strip()
    if not HOST.fullmatch(host) or not secret.TOKEN.fullmatch(key):
        return _card(ui, note("", ui.t("settings.endpoint.odd"), tone="bad")), gr.skip(), "", gr.skip()
    secret.write(ui.home.endpoint_key_file, json.dumps({"host": host, "key": key}))
    return shown(ui, "settings.endpoint.saved")


def remove(ui: Ui) -> tuple[Any, ...]:
    """Forget the key."""
    ui.home.endpoint_key_file.unlink(missing_ok=True)
    return shown(ui, "settings.endpoint.removed")


def shown(ui: Ui, said: str = "") -> tuple[Any, ...]:
    """Return the card, two empty fields, and whether the key can be removed."""
    news = note("", ui.t(said), tone="good") if said else Html("")
    return _card(ui, news), "", "", gr.update(visible=_host(ui) is not None)


def hosts(ui: Ui) -> Html:
    """Return which servers may be asked."""
    allow = outside.allowed(os.environ, outside.ENDPOINT_ALLOW)
    said = ui.t("make.endpoint.hosts", hosts=", ".join(sorted(allow))) if allow else ui.t("make.endpoint.no_hosts")
    return tag("p", said, cls="at-soft at-small")


def _host(ui: Ui) -> str | None:
    try:
        return str(json.loads(ui.home.endpoint_key_file.read_text(encoding="utf-8"))["host"])
    except FileNotFoundError:
        return None


def _card(ui: Ui, news: Html) -> Html:
    t, host = ui.t, _host(ui)
    mark = chip(t("settings.is_set" if host else "settings.not_set"), "good" if host else "plain")
    known = t("settings.endpoint.for", host=host) if host else ""
    text = tag("p", t("settings.endpoint.help"), " ", known, cls="at-soft")
    return card(text, hosts(ui), news, title=t("settings.endpoint"), aside=mark)
