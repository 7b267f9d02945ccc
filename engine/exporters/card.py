"""The model card of an export: what it is, what it learned from, how far it is from the chat; all text escaped."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+\-.!|~<>&=:@$])")
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]+")
MAX_TEXT = 200


@dataclass(frozen=True, slots=True)
class Card:
    """What the card tells. Sections are tables of name and value."""

    title: str
    base_name: str
    licence: str | None
    lines: Sequence[str]
    lineage: str | None = None
    """The hub id of what the base comes from, where that is not its name."""
    sections: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def render(card: Card) -> str:
    """The card as Markdown with the front matter that hubs read."""
    front: dict[str, Any] = {
        "library_name": "transformers",
        "base_model": _name(card.lineage or card.base_name),
        "tags": ["atelier", "fine-tuned"],
    }
    if card.licence:
        front["license"] = _name(card.licence)
    parts = [
        "---",
        *(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in front.items()),
        "---",
        f"# {plain(card.title)}",
        "",
        f"Fine-tuned from {plain(card.base_name)} with Atelier.",
        f"Licence of the base: {plain(card.licence or 'not stated')}.",
        "",
        "## How to load it",
        "```python",
        *card.lines,
        "```",
    ]
    for title, table in card.sections.items():
        parts += ["", f"## {plain(title)}", "| | |", "|---|---|"]
        parts += [f"| {plain(name)} | {plain(_shown(value))} |" for name, value in table.items()]
    return "\n".join(parts) + "\n"


def plain(text: str) -> str:
    """Text that Markdown shows as it is: on one line, nothing in it is markup, a link or HTML."""
    return MARKDOWN.sub(r"\\\1", _line(text)).replace("\\<", "&lt;").replace("\\>", "&gt;").replace("\\&", "&amp;")


def _name(text: str) -> str:
    """What can stand in the front matter: the characters of names."""
    return re.sub(r"[^\w ./+-]", "", _line(text))


def _line(text: str) -> str:
    return CONTROL.sub(" ", text).strip()[:MAX_TEXT]


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "–" if value is None else str(value)
