"""What a person meets where a handler fails in a way that nobody foresaw: a sentence of ours, and an id for the log."""

from __future__ import annotations

import logging
import secrets
from typing import Any

import gradio as gr

from app.language import Text

log = logging.getLogger(__name__)


class Pages(gr.Blocks):
    """Blocks on which no handler that a person has set off fails in silence.

    Gradio sends only the words of a `gr.Error`, and draws them for queued events alone: app.js draws the others.
    """

    def __init__(self, t: Text, **options: Any) -> None:
        super().__init__(**options)
        self._t = t

    async def process_api(self, block_fn: Any, *given: Any, **named: Any) -> dict[str, Any]:
        """Run an event. The stack of a fault goes to the log under an id; its words may hold anything."""
        try:
            return await super().process_api(block_fn, *given, **named)
        except Exception as error:
            if any(event == "tick" for _, event in getattr(block_fn, "targets", [])):
                raise  # comes again every second or two; the rail says that the studio does not answer
            number = secrets.token_hex(4)
            log.exception("a handler failed id=%s", number)
            raise gr.Error(self._t("fault", id=number), print_exception=False) from error
