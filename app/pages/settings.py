"""Settings: language, theme, password and hub token (both write-only), versions, folders and what they take."""

from __future__ import annotations

import os
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from app import auth, endpointkey, hooking, measure, secret, versions
from app.folders import bytes_below
from app.frame import QUIET, on_load
from app.language import LANGUAGES
from app.panel import Panel
from app.render import Html, card, chip, heading, key_values, link, note, table, tag
from app.ui import Ui
from storage import settings

LEAST_CHARACTERS = 8


def build(ui: Ui) -> None:
    """Lay the page out."""
    t = ui.t
    Panel(heading(t("page.settings"), t("settings.lead")))
    Panel(_look(ui))
    password_state = Panel(elem_id="at-password-state")
    with gr.Row(elem_classes=["at-secret"]):
        current = gr.Textbox(label=t("settings.password.current"), type="password", max_lines=1, visible=False)
        new = gr.Textbox(label=t("settings.password.new"), type="password", max_lines=1, elem_id="at-password")
        again = gr.Textbox(
            label=t("settings.password.again"), type="password", max_lines=1, elem_id="at-password-again"
        )
    with gr.Row(elem_classes=["at-buttons"]):
        set_password = gr.Button(t("settings.password.save"), size="sm", elem_id="at-password-save")
        clear_password = gr.Button(t("settings.password.remove"), size="sm", visible=False)
    token_state = Panel(elem_id="at-token-state")
    token = gr.Textbox(label=t("settings.token.new"), type="password", max_lines=1, elem_id="at-token")
    with gr.Row(elem_classes=["at-buttons"]):
        set_token = gr.Button(t("settings.token.save"), size="sm", elem_id="at-token-save")
        clear_token = gr.Button(t("settings.token.remove"), size="sm", visible=False)
    hook_state = Panel(elem_id="at-webhook-state")
    hook = gr.Textbox(label=t("settings.webhook.new"), max_lines=1, elem_id="at-webhook")
    with gr.Row(elem_classes=["at-buttons"]):
        set_hook = gr.Button(t("settings.webhook.save"), size="sm", elem_id="at-webhook-save")
        clear_hook = gr.Button(t("settings.webhook.remove"), size="sm", visible=False)
    key_state = Panel(elem_id="at-endpoint-state")
    with gr.Row(elem_classes=["at-secret"]):
        key_host = gr.Textbox(label=t("settings.endpoint.host"), max_lines=1, elem_id="at-endpoint-host")
        key = gr.Textbox(label=t("settings.endpoint.key"), type="password", max_lines=1, elem_id="at-endpoint-key")
    with gr.Row(elem_classes=["at-buttons"]):
        set_key = gr.Button(t("settings.endpoint.save"), size="sm", elem_id="at-endpoint-save")
        clear_key = gr.Button(t("settings.endpoint.remove"), size="sm", visible=False)
    about = Panel(elem_id="at-about")
    of_password = [password_state, current, new, again, clear_password]
    of_token = [token_state, token, clear_token]
    of_hook = [hook_state, hook, clear_hook]
    of_key = [key_state, key_host, key, clear_key]
    set_password.click(partial(save_password, ui), [current, new, again], of_password, **QUIET)
    clear_password.click(partial(remove_password, ui), current, of_password, **QUIET)
    set_token.click(partial(save_token, ui), token, of_token, **QUIET)
    clear_token.click(partial(remove_token, ui), None, of_token, **QUIET)
    set_hook.click(partial(hooking.save, ui), hook, of_hook, **QUIET)
    clear_hook.click(partial(hooking.remove, ui), None, of_hook, **QUIET)
    set_key.click(partial(endpointkey.save, ui), [key_host, key], of_key, **QUIET)
    clear_key.click(partial(endpointkey.remove, ui), None, of_key, **QUIET)

    def opened() -> tuple[Any, ...]:
        return (*_password(ui), *_token(ui), *hooking.shown(ui), *endpointkey.shown(ui), about_html(ui))

    on_load(opened, outputs=[*of_password, *of_token, *of_hook, *of_key, about])


def save_password(ui: Ui, current: str, new: str, again: str) -> tuple[Any, ...]:
    """Keep the hash of a new password; a password that is set must be given first."""
    trouble = _refusal(ui, current)
    if trouble is None and len(new) < LEAST_CHARACTERS:
        trouble = "settings.password.short"
    if trouble is None and new != again:
        trouble = "settings.password.differs"
    if trouble is None:
        auth.write_password(ui.home.password_file, new)
        with ui.store.write() as session:
            settings.put(session, secret.PASSWORD_SETTING, str(ui.home.password_file))
    return _password(ui, trouble or "settings.password.saved", bad=trouble is not None)


def remove_password(ui: Ui, current: str) -> tuple[Any, ...]:
    """Forget the password."""
    trouble = _refusal(ui, current)
    if trouble is None:
        with ui.store.write() as session:
            settings.put(session, secret.PASSWORD_SETTING, None)
        ui.home.password_file.unlink(missing_ok=True)
    return _password(ui, trouble or "settings.password.removed", bad=trouble is not None)


def save_token(ui: Ui, token: str) -> tuple[Any, ...]:
    """Keep the hub token in a file that only its owner can read."""
    if not secret.TOKEN.fullmatch(token.strip()):
        return _token(ui, "settings.token.odd", bad=True)
    secret.write(ui.home.token_file, token.strip())
    return _token(ui, "settings.token.saved")


def remove_token(ui: Ui) -> tuple[Any, ...]:
    """Forget the hub token."""
    ui.home.token_file.unlink(missing_ok=True)
    return _token(ui, "settings.token.removed")


def about_html(ui: Ui) -> Html:
    """Return versions, folders and disk use."""
    t, home = ui.t, ui.home
    named = [home.datasets, home.models, home.runs, home.exports, home.logs, home.staging]
    rows = [
        (t(f"settings.folder.{one.name}"), tag("span", str(one), cls="at-path"), measure.size(bytes_below(one)))
        for one in named
    ]
    rows.append(
        (
            t("settings.folder.store"),
            tag("span", ui.store.url.render_as_string(hide_password=True), cls="at-path"),
            measure.size(_store(home.root)),
        )
    )
    more = link(t("settings.more"), "/disk")
    free = t("settings.free", size=measure.size(shutil.disk_usage(home.root).free))
    folders = card(
        table([t("settings.what"), t("settings.folder"), t("settings.takes")], rows),
        title=t("settings.disk"),
        aside=tag("span", free, " · ", more),
    )
    return tag("div", folders, card(key_values(versions.found().items()), title=t("settings.versions")), cls="at-stack")


def _look(ui: Ui) -> Html:
    t = ui.t
    languages = (
        tag(
            "button",
            name,
            type="button",
            cls="at-button at-small" + (" at-primary" if code == ui.language else ""),
            data_language=code,
            lang=code,
        )
        for code, name in LANGUAGES.items()
    )
    theme = tag("button", t("frame.theme"), type="button", cls="at-button at-small", data_theme_switch=True)
    rows = [(t("settings.language"), tag("span", *languages, cls="at-choices")), (t("settings.theme"), theme)]
    return card(key_values(rows), title=t("settings.look"))


def _hash(ui: Ui) -> str | None:
    """The hash that is set in the home; what the environment sets is not ours to change."""
    with ui.store.read() as session:
        named = settings.get(session, secret.PASSWORD_SETTING)
    try:
        return auth.stored_password({}, Path(named) if named else None)
    except auth.PasswordFileError:
        return None


def _refusal(ui: Ui, current: str) -> str | None:
    known = _hash(ui)
    return "settings.password.wrong" if known is not None and not auth.verify(current or "", known) else None


def _password(ui: Ui, said: str | None = None, *, bad: bool = False) -> tuple[Any, ...]:
    is_set = _hash(ui) is not None
    text = "settings.password.environment" if os.environ.get("ATELIER_PASSWORD") else "settings.password.help"
    state = _state(ui, "settings.password", text, is_set, (said, bad))
    return state, gr.update(visible=is_set, value=""), "", "", gr.update(visible=is_set)


def _token(ui: Ui, said: str | None = None, *, bad: bool = False) -> tuple[Any, ...]:
    is_set = ui.home.token_file.is_file()
    return _state(ui, "settings.token", "settings.token.help", is_set, (said, bad)), "", gr.update(visible=is_set)


def _state(ui: Ui, title: str, text: str, is_set: bool, said: tuple[str | None, bool]) -> Html:
    """Return what is known of a secret: whether it is set, never what it is."""
    t = ui.t
    mark = chip(t("settings.is_set" if is_set else "settings.not_set"), "good" if is_set else "plain")
    news = note("", t(said[0], n=LEAST_CHARACTERS), tone="bad" if said[1] else "good") if said[0] else ""
    return card(tag("p", t(text), cls="at-soft"), news, title=t(title), aside=mark)


def _store(root: Path) -> int:
    return sum(path.stat().st_size for path in root.glob("store.db*"))
