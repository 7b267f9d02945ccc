"""Panel: the one component through which HTML reaches a page. It takes only what `render` returned.

Gradio's own HTML component evaluates its template as JavaScript, which the content security policy forbids;
its Markdown component passes a block of HTML through untouched, as long as the block has no blank line.
"""

from __future__ import annotations

from abc import ABCMeta
from typing import Any

import gradio as gr
from gradio.blocks import Block
from gradio.component_meta import ComponentMeta

from app.render import Html, tag


class _WithoutStub(ComponentMeta):
    """Gradio's metaclass writes a .pyi file beside the source of every new component; an installed package must not."""

    def __new__(cls, name: str, bases: tuple[type, ...], attributes: dict[str, Any]) -> _WithoutStub:
        return ABCMeta.__new__(cls, name, bases, attributes)


class Panel(gr.Markdown, metaclass=_WithoutStub):
    """A piece of HTML made by `render`; a handler returns `Html` to it."""

    is_template = True

    def __init__(self, value: Html | None = None, **named: Any) -> None:
        classes = {"at-panel", *(named.pop("elem_classes", None) or [])}
        options = {"sanitize_html": False, "latex_delimiters": [], "container": False, "elem_classes": sorted(classes)}
        super().__init__(value, **{**named, **options})

    def get_config(self, cls: type[Block] | None = None) -> dict[str, Any]:
        return super().get_config(cls or gr.Markdown)

    def postprocess(self, value: Any) -> str | None:
        if value is None:
            return None
        if not isinstance(value, Html):
            raise TypeError("a panel shows only HTML that render made")
        return tag("div", value, cls="at-inner").replace("\r", "").replace("\n", "&#10;")
