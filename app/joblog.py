"""The log of a job: its events as sentences, and the last lines that its processes printed."""

from __future__ import annotations

from pathlib import Path

from app.language import Text
from app.measure import size
from engine.specs import printed
from storage.jobs import Event

LEAST_BYTES = 24_000
BYTES_PER_LINE = 120


def sentence(t: Text, event: Event) -> str:
    """Return an event as a sentence."""
    data = dict(event.data)
    values = data.pop("values", None) or {}
    if "bytes" in data:
        data["bytes"] = size(data["bytes"])
    data["reason"] = t.reason(data["reason"], values) if data.get("reason") else ""
    state, held = data.get("state"), ".held" if data.get("held") else ""
    keys = (f"event.{event.kind}.{state}{held}", f"event.{event.kind}.{state}", f"event.{event.kind}", "event.other")
    return t.either(*keys, kind=event.kind, **data).strip()


def tail(path: Path, *, lines: int) -> list[str]:
    """Return the last lines of a log; none where nothing was printed."""
    text = printed.end(path, max(LEAST_BYTES, BYTES_PER_LINE * lines))
    # A progress bar redraws its line with a carriage return: what it showed last is kept.
    return [line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n") if line.strip()][-lines:]
