"""The pieces of the Chat page: the empty transcript that chat.js fills, the list of conversations, the memory card."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.orm import Session

from app import measure
from app.language import Text
from app.render import Html, button_link, card, empty, key_values, link, tag
from storage import models
from storage.messages import Conversation
from storage.processes import ChatProcess
from storage.targets import parse_key


def new_chat(t: Text) -> Html:
    """Return the page's title beside the way to a new conversation."""
    return tag("div", tag("h1", t("page.chat")), button_link(t("chat.new"), "/chat", small=True), cls="at-chat-top")


def transcript(t: Text) -> Html:
    """Return the place of the transcript, with the words that chat.js needs."""
    words = {f"data_word_{key}": t(f"chat.word.{key}") for key in ("you", "again", "copy", "copied", "lost")}
    nothing = tag("div", empty(t("chat.empty.title"), t("chat.empty.text")), id="at-chat-empty")
    return nothing + tag("div", id="at-chat", role="log", aria_live="polite", aria_label=t("chat.transcript"), **words)


def conversations(found: Sequence[Conversation], current: int | None, t: Text) -> Html:
    """Return the list of conversations, the chosen one marked."""
    if not found:
        return tag("p", t("chat.none_yet"), cls="at-soft at-small")
    return tag("div", *(_conversation(one, one.id == current, t) for one in found), cls="at-talks")


def _conversation(one: Conversation, is_current: bool, t: Text) -> Html:
    title = one.title or t("chat.untitled")
    href = f"/chat?conversation={one.id}"
    current = "page" if is_current else None
    anchor = link(title, href, cls="at-talk", data_select=str(one.id), aria_current=current, title=title)
    label = t("chat.forget", title=title)
    sure = {"data_sure": t("chat.forget_sure")}
    button = tag("button", "×", type="button", data_order=f"forget:{one.id}", title=label, aria_label=label, **sure)
    return tag("div", anchor, button, cls="at-talk-line")


def memory(found: Sequence[ChatProcess], session: Session, t: Text) -> Html:
    """Return the bases in memory: where, how much, which adapters, and the way to unload them."""
    if not found:
        return card(tag("p", t("chat.memory.none"), cls="at-soft at-small"), title=t("chat.memory"))
    names = {model.path: model.name for model in models.listing(session)}
    return card(*(_process(one, names, t) for one in found), title=t("chat.memory"))


def _process(one: ChatProcess, names: dict[str, str], t: Text) -> Html:
    path, form, _ = parse_key(one.base_key)
    name = t("chat.base", model=names.get(path) or t("chat.full_checkpoint"))
    title = name if form == "none" else f"{name} · {t(f'choice.quantization.{form}')}"
    if one.state == "loading":
        return tag(
            "div", tag("strong", title), tag("p", t("chat.memory.loading"), cls="at-soft at-small"), cls="at-loaded"
        )
    rows = [
        (
            t("chat.memory.device"),
            t.either(f"chat.device.{one.device_reason}", f"chat.device.{one.device}", device=one.device),
        ),
        (t("chat.memory.size"), measure.size(one.memory_bytes)),
        (t("chat.memory.adapters"), len(one.adapters)),
    ]
    asked = one.unload_requested
    label = t("chat.memory.unloading" if asked else "chat.memory.unload")
    button = tag(
        "button", label, type="button", cls="at-button at-small", data_order=f"unload:{one.id}", disabled=asked
    )
    return tag("div", tag("strong", title), key_values(rows), button, cls="at-loaded")
