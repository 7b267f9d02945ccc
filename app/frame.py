"""The frame around every page: the rail with the pages, the worker, language and theme; and how a page is addressed."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import gradio as gr
from gradio.components import Navbar
from gradio.context import Context

from app.icons import MARK, icon
from app.language import LANGUAGES
from app.panel import Panel
from app.render import Html, link, safe, tag
from app.ui import Ui

HEAD = """<meta name="color-scheme" content="light dark">
<link rel="icon" href="/studio/logo.svg" type="image/svg+xml">
<link rel="stylesheet" href="/studio/studio.css">
<link rel="stylesheet" href="/studio/form.css">
<link rel="stylesheet" href="/studio/chat.css">
<link rel="stylesheet" href="/studio/queue.css">
<link rel="stylesheet" href="/studio/chains.css">
<script src="/studio/app.js"></script>
<script src="/studio/typing.js" defer></script>
<script src="/studio/address.js" defer></script>
<script src="/studio/charts.js" defer></script>
<script src="/studio/curves.js" defer></script>
<script src="/studio/chat.js" defer></script>
<script src="/studio/queue.js" defer></script>
<script src="/studio/form.js" defer></script>
<script src="/studio/toasts.js" defer></script>"""


def address(name: str) -> str:
    """Return the path of a page."""
    return "/" if name == "home" else f"/{name}"


@contextmanager
def page(ui: Ui, name: str, names: Sequence[str]) -> Iterator[None]:
    """Draw the rail, and put what is built inside into the main part."""
    Navbar(visible=False)
    Panel(_rail(ui, name, names), elem_id="at-rail")
    with gr.Column(elem_id="at-main", elem_classes=[f"at-page-{name}"]):
        yield


def _rail(ui: Ui, current: str, names: Sequence[str]) -> Html:
    pages = (
        link(
            tag("span", icon(name), tag("span", ui.t(f"page.{name}"), cls="at-word")),
            address(name),
            aria_current="page" if name == current else None,
            title=ui.t(f"page.{name}"),
        )
        for name in names
    )
    brand = link(tag("span", MARK, tag("span", "Atelier", cls="at-word")), "/", cls="at-brand", aria_label="Atelier")
    skip = link(ui.t("frame.skip"), "#at-main", cls="at-skip")
    worker = tag("div", id="at-worker", role="status", aria_live="polite")
    foot = tag("div", worker, _switches(ui), cls="at-foot")
    close = tag("button", "×", type="button", aria_label=ui.t("frame.close"))
    fault = tag("div", tag("p"), close, id="at-fault", role="alert", hidden=True)
    toasts = tag("div", id="at-toasts", role="status", aria_live="polite", data_word_close=ui.t("frame.close"))
    return safe(skip) + tag("nav", brand, *pages, aria_label=ui.t("frame.pages")) + foot + fault + toasts


def _switches(ui: Ui) -> Html:
    other = next(name for name in LANGUAGES if name != ui.language)
    label = LANGUAGES[other]
    language = tag(
        "button",
        icon("language"),
        tag("span", label, cls="at-word"),
        type="button",
        title=label,
        data_language=other,
        lang=other,
    )
    theme = tag(
        "button",
        icon("theme"),
        tag("span", ui.t("frame.theme"), cls="at-word"),
        type="button",
        title=ui.t("frame.theme"),
        data_theme_switch=True,
    )
    return tag("div", language, theme, cls="at-switches")


QUIET: dict[str, Any] = {
    "show_progress": "hidden",
    "show_progress_on": [],
    "queue": False,
    "api_visibility": "private",
}
"""How a handler answers that a person does not wait for. Its progress is shown on no component at all: even where it is
hidden, each of the outputs would count the time sixty times a second."""


def on_load(handler: Callable[..., Any], *, inputs: Any = None, outputs: Any = None) -> None:
    """Run a handler when the page that is being built is opened. It may take a `gr.Request` to read the address."""
    blocks = Context.root_block
    assert blocks is not None
    event = _with_request(handler) if "request" in inspect.signature(handler).parameters else handler
    blocks.load(event, inputs, outputs, **QUIET)


def _with_request(handler: Callable[..., Any]) -> Callable[..., Any]:
    """Gradio finds a request parameter by its annotation, which it cannot read through a partial."""

    def opened(request: gr.Request, *values: Any) -> Any:
        return handler(*values, request=request)

    return opened


def every(seconds: float, handler: Callable[..., Any], *, inputs: Any = None, outputs: Any = None) -> gr.Timer:
    """Run a handler again and again while the page is open; it returns `gr.skip()` where nothing changed."""
    timer = gr.Timer(seconds)
    timer.tick(handler, inputs, outputs, **QUIET)
    return timer


def selection() -> gr.Textbox:
    """Return the hidden field that follows the address.

    A link with `data_select="12"` puts 12 into it and its own href into the address, without loading the page anew;
    its `change` event tells the page. A plain load of the same address must give the same: see `on_load`.
    """
    return gr.Textbox(elem_id="at-selection", visible="hidden", show_label=False, container=False)


def orders() -> gr.Textbox:
    """Return the hidden field that a button with `data_order="verb:id"` fills: its `change` event tells the page.

    A number that tells two equal orders apart comes after another colon.
    """
    return gr.Textbox(elem_id="at-order", visible="hidden", show_label=False)


def go(to: str) -> Html:
    """Return what takes the browser to another page, once it is put into a panel."""
    return tag("div", link("…", to, data_go=True))
