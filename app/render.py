"""The only place where untrusted text becomes HTML. Every function escapes what it is given and returns `Html`."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.language import Text
from engine.specs.problem import Problem

TONES = ("plain", "accent", "good", "waiting", "bad")


class Html(str):
    """Text that is HTML already; everything else is escaped."""

    __slots__ = ()

    def __add__(self, other: str) -> Html:
        return Html(str.__add__(self, safe(other)))


def safe(value: object) -> Html:
    """Return HTML as it is and any other value escaped."""
    return value if isinstance(value, Html) else Html(html.escape(str(value), quote=True))


def join(parts: Iterable[object], between: str = "") -> Html:
    return Html(html.escape(between).join(safe(part) for part in parts))


def tag(element: str, /, *children: object, **attributes: object) -> Html:
    """Return an element. `cls` is its class; underscores in attribute names become dashes; None and False leave out."""
    opened = "".join(_attribute(key, value) for key, value in attributes.items())
    return Html(f"<{element}{opened}>{join(children)}</{element}>")


def _attribute(key: str, value: object) -> str:
    name = "class" if key == "cls" else key.rstrip("_").replace("_", "-")
    if value is None or value is False:
        return ""
    return f" {name}" if value is True else f' {name}="{safe(value)}"'


def link(label: object, href: str, **attributes: object) -> Html:
    """Return an anchor to a page of our own.

    Raises:
        ValueError: the address is not a path, a query or a fragment of this site.
    """
    if href[:1] not in ("/", "?", "#") or href[:2] == "//" or "\\" in href:
        raise ValueError(f"not an address of this site: {href!r}")
    return tag("a", label, href=href, **attributes)


def button_link(label: object, href: str, *, primary: bool = False, small: bool = False) -> Html:
    """Return an anchor that looks like a button."""
    return link(label, href, cls=_classes("at-button", primary and "at-primary", small and "at-small"))


def _classes(*names: object) -> str:
    return " ".join(str(name) for name in names if name)


def heading(title: object, text: object = "") -> Html:
    """Return the title of a page with a sentence below it."""
    below = tag("p", text, cls="at-lead") if text else ""
    return tag("header", tag("h1", title), below, cls="at-heading")


def chip(label: object, tone: str = "plain") -> Html:
    """Return a small label of a state. `tone` is one of `TONES`."""
    return tag("span", label, cls=f"at-chip at-{tone}")


def card(*body: object, title: object = "", aside: object = "", tone: str = "") -> Html:
    """Return a card: a title with something at its right, then the body."""
    head = tag("div", tag("h2", title), tag("div", aside, cls="at-aside"), cls="at-card-head") if title or aside else ""
    return tag("section", head, *body, cls=_classes("at-card", tone and f"at-edge-{tone}"))


def bar(share: float | None, *, tone: str = "accent", label: str = "") -> Html:
    """Return a progress bar; `None` is work whose end is not known."""
    if share is None:
        return tag("div", tag("i"), cls=f"at-bar at-{tone} at-endless", role="progressbar", aria_label=label or None)
    percent = 100 * min(1.0, max(0.0, share if math.isfinite(share) else 0.0))
    fill = tag("i", style=f"width:{percent:.2f}%")
    now = f"{percent:.0f}"
    named = {"aria_valuenow": now, "aria_valuemin": "0", "aria_valuemax": "100", "aria_label": label or None}
    return tag("div", fill, cls=f"at-bar at-{tone}", role="progressbar", **named)


def facts(items: Iterable[tuple[object, object] | tuple[object, object, object]]) -> Html:
    """Return labels over numbers: (label, value) or (label, value, small addition)."""
    return tag("dl", *(_fact(*item) for item in items), cls="at-facts")


def _fact(label: object, value: object, addition: object = "") -> Html:
    below = tag("small", addition) if addition else ""
    return tag("div", tag("dt", label), tag("dd", value, " " if below else "", below))


def key_values(items: Iterable[tuple[object, object]]) -> Html:
    """Return a two-column table."""
    rows = (tag("tr", tag("th", key, scope="row"), tag("td", value)) for key, value in items)
    return tag("table", tag("tbody", *rows), cls="at-kv")


def table(head: Sequence[object], rows: Iterable[Sequence[object]], *, caption: object = "") -> Html:
    """Return a table that scrolls within itself where it is too wide."""
    top = tag("thead", tag("tr", *(tag("th", cell, scope="col") for cell in head)))
    body = tag("tbody", *(tag("tr", *(tag("td", cell) for cell in row)) for row in rows))
    name = tag("caption", caption) if caption else ""
    return tag("div", tag("table", name, top, body, cls="at-table"), cls="at-scroll", tabindex="0")


def note(title: object, text: object, *, tone: str = "accent", action: object = "") -> Html:
    """Return a remark: what is seen, what it means, what to do."""
    strong = tag("strong", title, " ") if title else ""
    more = tag("span", action, cls="at-note-action") if action else ""
    return tag("div", tag("p", strong, text), more, cls=f"at-note at-{tone}", role="note")


def empty(title: object, text: object, action: object = "") -> Html:
    """Return what stands on a page that has nothing yet: what will appear here, and how."""
    more = tag("p", action) if action else ""
    return tag("div", tag("h2", title), tag("p", text), more, cls="at-empty")


def steps(items: Iterable[tuple[object, object]]) -> Html:
    """Return a numbered list of (title, text)."""
    return tag("ol", *(tag("li", tag("strong", title), tag("span", text)) for title, text in items), cls="at-steps")


def sparkline(values: Sequence[float | None], *, label: str = "", width: int = 100, height: int = 26) -> Html:
    """Return a small line without axes; values that are not finite are gaps."""
    known = [value for value in values if value is not None and math.isfinite(value)]
    if len(known) < 2:
        return Html("")
    low, high = min(known), max(known)
    span = (high - low) or 1.0
    pieces: list[list[str]] = [[]]
    for place, value in enumerate(values):
        if value is None or not math.isfinite(value):
            pieces.append([])
            continue
        x = 1 + (width - 2) * place / (len(values) - 1)
        pieces[-1].append(f"{x:.1f},{1 + (height - 2) * (high - value) / span:.1f}")
    lines = [tag("polyline", points=" ".join(piece)) for piece in pieces if len(piece) > 1]
    box = f"0 0 {width} {height}"
    return tag(
        "svg",
        *lines,
        cls="at-spark",
        viewBox=box,
        role="img",
        aria_label=label or None,
        aria_hidden=None if label else "true",
    )


@dataclass(frozen=True, slots=True)
class TokenLabels:
    """The words of the token view's legend."""

    trained: str
    context: str
    cut: str

    @classmethod
    def of(cls, t: Text) -> TokenLabels:
        return cls(t("tokens.trained"), t("tokens.context"), t("tokens.cut"))


def tokens(view: Mapping[str, Any], labels: TokenLabels) -> Html:
    """Return the tokens of a row, coloured by what is trained, what is context and what is cut off.

    `view["tokens"]` are dicts of text, trained, and optionally cut, special and what begins with the token.
    """
    legend = tag(
        "p",
        tag("span", labels.trained, cls="at-tok at-trained"),
        tag("span", labels.context, cls="at-tok"),
        tag("span", labels.cut, cls="at-tok at-cut"),
        cls="at-legend",
    )
    return tag("div", legend, tag("div", *map(_token, view["tokens"]), cls="at-tokens"))


def _token(token: Mapping[str, Any]) -> Html:
    shown = str(token["text"]).replace("\t", "⇥")
    pieces = shown.split("\n")
    body = join([pieces[0], *(Html(f"↵<br>{safe(piece)}") for piece in pieces[1:])])
    trained, cut, special = token.get("trained"), token.get("cut"), token.get("special")
    names = _classes("at-tok", trained and "at-trained", cut and "at-cut", special and "at-special")
    border = tag("span", token["begins"], cls="at-tok-border") if token.get("begins") else Html("")
    return border + tag("span", body, cls=names, title=token.get("id"))


def transcript(messages: Iterable[Mapping[str, Any]], t: Text) -> Html:
    """Return the turns of a conversation: dicts of role and content, and optionally tool calls."""
    return tag("div", *(_turn(message, t) for message in messages), cls="at-transcript")


def _turn(message: Mapping[str, Any], t: Text) -> Html:
    role = str(message.get("role", ""))
    name = t.get(f"role.{role}", role)
    known = role if role in ("system", "user", "assistant") else "other"
    said = [tag("pre", text) for text in (message.get("content"), message.get("tool_calls")) if text]
    return tag("div", tag("span", name, cls="at-role"), tag("div", *said), cls=f"at-turn at-{known}")


def problems(found: Iterable[Problem], t: Text) -> Html:
    """Return what is wrong, where, and how to fix it, one line each."""
    rows = [_problem(problem, t) for problem in found]
    return tag("ul", *rows, cls="at-problems") if rows else Html("")


def _problem(problem: Problem, t: Text) -> Html:
    what, fix = t.problem(problem)
    line = t("problem.at_line", line=problem.where.line) if problem.where.line else ""
    place = " · ".join(part for part in (problem.file, line, problem.where.field) if part)
    where = tag("span", place, cls="at-where") if place else ""
    return tag("li", where, tag("span", what, cls="at-what"), tag("span", fix, cls="at-fix") if fix else "")


def log(lines: Iterable[object]) -> Html:
    """Return lines of output in a box that scrolls."""
    return tag("pre", "\n".join(str(line) for line in lines), cls="at-log", tabindex="0")


def code(text: str) -> Html:
    return tag("pre", tag("code", text), cls="at-code", tabindex="0")


def events(items: Iterable[tuple[str, object, str]]) -> Html:
    """Return what happened: (time, sentence, tone) in order."""
    rows = (tag("li", tag("time", at), tag("span", sentence), cls=f"at-{tone}") for at, sentence, tone in items)
    return tag("ol", *rows, cls="at-events")


def columns(*parts: object) -> Html:
    """Return parts side by side that stack where there is no room."""
    return tag("div", *(tag("div", part) for part in parts), cls="at-columns")
