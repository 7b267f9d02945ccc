"""Chat: a base or any checkpoint, one or two side by side. Questions become rows; chat.js draws them as they grow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import gradio as gr

from app import chatview, ids, talk
from app.frame import QUIET, every, on_load, orders, selection
from app.panel import Panel
from app.refusal import refusal
from app.render import Html, note
from app.ui import Ui
from storage import drafts, messages, processes
from storage.errors import StoreError

LOOK_S = 2.0
MOST_LISTED = 60


@dataclass(frozen=True, slots=True)
class Form:
    """What a question goes with; the order is that of the handlers' last arguments."""

    first: gr.Dropdown
    second: gr.Dropdown
    system: gr.Textbox
    temperature: gr.Slider
    max_tokens: gr.Number
    seed: gr.Number

    @classmethod
    def names(cls) -> list[str]:
        return [one.name for one in fields(cls)]

    @property
    def parts(self) -> list[Any]:
        return [getattr(self, name) for name in self.names()]


def build(ui: Ui) -> None:
    """Lay the page out."""
    t = ui.t
    chosen = selection()
    conversation = gr.Textbox(elem_id="at-conversation", visible="hidden", show_label=False)
    order = orders()
    known = gr.State([])
    with gr.Row(elem_classes=["at-split"]):
        with gr.Column(elem_classes=["at-list"]):
            Panel(chatview.new_chat(t))
            listed, memory = Panel(elem_id="at-chats"), Panel(elem_id="at-memory")
        with gr.Column(elem_classes=["at-detail"]):
            form = _form(ui)
            Panel(chatview.transcript(t), elem_id="at-chat-panel")
            said = Panel(elem_id="at-chat-said")
            with gr.Row(elem_id="at-composer"):
                text = gr.Textbox(
                    show_label=False,
                    placeholder=t("chat.placeholder"),
                    lines=1,
                    max_lines=8,
                    container=False,
                    scale=5,
                    elem_id="at-question",
                )
                send = gr.Button(t("chat.send"), variant="primary", scale=0, min_width=96, elem_id="at-send")
                gr.Button(t("chat.stop"), scale=0, min_width=96, elem_id="at-stop")
    sending = {"inputs": [conversation, text, *form.parts], "outputs": [conversation, text, said], **QUIET}
    gr.on([text.submit, send.click], partial(submit, ui), **sending).then(
        partial(listing, ui), conversation, listed, **QUIET
    )
    ordered = order.change(partial(obey, ui), order, said, **QUIET)
    ordered.then(partial(beside, ui), conversation, [listed, memory], **QUIET)
    for name, part in zip(form.names(), form.parts, strict=True):  # `change` would fire while the page fills itself
        part.input(partial(keep, ui, name), part, None, trigger_mode="always_last", **QUIET)
    shown = [conversation, known, *form.parts, said]
    chosen.change(partial(show, ui), chosen, shown, **QUIET).then(partial(listing, ui), conversation, listed, **QUIET)

    def opened(request: gr.Request) -> tuple[Any, ...]:
        return load(ui, request.query_params)

    on_load(opened, outputs=[*shown, listed, memory])
    every(
        LOOK_S,
        partial(look, ui),
        inputs=[known, form.first, form.second],
        outputs=[known, form.first, form.second, memory],
    )


def _form(ui: Ui) -> Form:
    t = ui.t
    with gr.Row(elem_classes=["at-pickers"]):
        first = gr.Dropdown([], label=t("chat.first"), elem_id="at-first", filterable=True)
        second = gr.Dropdown([], label=t("chat.second"), elem_id="at-second", filterable=True)
    with gr.Accordion(t("chat.settings"), open=False, elem_id="at-chat-settings"):
        system = gr.Textbox(label=t("chat.system"), info=t("chat.system.help"), lines=2, max_lines=8)
        with gr.Row():
            temperature = gr.Slider(
                0, 2, step=0.05, label=t("chat.temperature"), info=t("chat.temperature.help"), buttons=[]
            )
            max_tokens = gr.Number(
                label=t("chat.length"), info=t("chat.length.help"), precision=0, minimum=1, maximum=4096
            )
            seed = gr.Number(label=t("chat.seed"), info=t("chat.seed.help"), precision=0, minimum=0)
    return Form(first, second, system, temperature, max_tokens, seed)


def submit(ui: Ui, conversation: str, text: str, *entered: Any) -> tuple[Any, Any, Html | None]:
    """Write the question's rows and return at once; the text comes back where it could not be asked."""
    settings = _settings(entered)
    if not text.strip():
        return gr.skip(), gr.skip(), None
    if not settings["first"]:
        return gr.skip(), gr.skip(), note("", ui.t("chat.choose_first"), tone="waiting")
    try:
        with ui.store.write() as session:
            number = talk.ask(session, ids.number(conversation), text, settings)
    except StoreError as error:
        return gr.skip(), gr.skip(), refusal(error, ui.t)
    return str(number), "", None


def obey(ui: Ui, order: str) -> Html | None:
    """Carry out a button of the transcript, the list or the memory card."""
    try:
        with ui.store.write() as session:
            talk.obey(session, order)
    except StoreError as error:
        return refusal(error, ui.t)
    return None


def keep(ui: Ui, name: str, entered: Any) -> None:
    """Keep what a person enters, for the next reload or restart; an emptied number gets its default back."""
    with ui.store.write() as session:
        kept = {**drafts.get(session, talk.PAGE, for_change=True), name: entered}
        drafts.put(session, talk.PAGE, {key: value for key, value in kept.items() if value is not None})


def load(ui: Ui, asked: Mapping[str, str]) -> tuple[Any, ...]:
    """Fill the page from its address: `?conversation=5`, or `?target=12@40` for a new one."""
    filled = show(ui, asked.get("conversation", ""), target=asked.get("target"))
    return (*filled, *beside(ui, filled[0]))


def show(ui: Ui, conversation: str, *, target: str | None = None) -> tuple[Any, ...]:
    """Fill the form for a conversation. Who is named and not there is said, and nobody else is chosen instead."""
    number, said = ids.number(conversation), None
    with ui.store.read() as session:
        number = number if number is not None and messages.newest(session, number) is not None else None
        settings = talk.settings_of(session, number)
        named = target or (settings["first"] if number is not None else None)
        try:
            settings["first"] = talk.exact(session, named) if named else settings["first"]
        except StoreError as error:
            said = refusal(error, ui.t)
        options = talk.choices(session, ui.t, also=(settings["first"], settings["second"]))
    values = [value for _, value in options]
    default = next(iter(values), None) if said is None else None
    first = settings["first"] if settings["first"] in values and said is None else default
    second = settings["second"] if settings["second"] in values else ""
    rest = [settings[name] for name in Form.names() if name not in ("first", "second")]
    pickers = (gr.update(choices=options, value=first), gr.update(choices=_beside(ui, options), value=second))
    return (str(number or ""), options, *pickers, *rest, said)


def listing(ui: Ui, conversation: str) -> Html:
    """Return the list of conversations."""
    with ui.store.read() as session:
        found = messages.conversations(session, limit=MOST_LISTED)
    return chatview.conversations(found, ids.number(conversation), ui.t)


def beside(ui: Ui, conversation: str) -> tuple[Html, Html]:
    """Return the list of conversations and the memory card."""
    return listing(ui, conversation), memory(ui)


def memory(ui: Ui) -> Html:
    """Return what is in memory."""
    with ui.store.read() as session:
        return chatview.memory(processes.listing(session), session, ui.t)


def look(ui: Ui, known: talk.Choices, first: str | None, second: str | None) -> tuple[Any, ...]:
    """Offer checkpoints as they are saved, and show what is in memory now."""
    with ui.store.read() as session:
        options = talk.choices(session, ui.t, also=(first, second))
    if [list(one) for one in options] == [list(one) for one in known]:
        return gr.skip(), gr.skip(), gr.skip(), memory(ui)
    values = [value for _, value in options]
    default = None if known else next(iter(values), None)
    start = first if first in values else default
    aside = second if second in values else ""
    return (
        options,
        gr.update(choices=options, value=start),
        gr.update(choices=_beside(ui, options), value=aside),
        memory(ui),
    )


def _beside(ui: Ui, options: talk.Choices) -> talk.Choices:
    return [(ui.t("chat.nobody"), ""), *options]


def _settings(entered: tuple[Any, ...]) -> dict[str, Any]:
    return dict(zip(Form.names(), entered, strict=True))
