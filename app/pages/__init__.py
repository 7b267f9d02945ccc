"""The pages by name, in the order of the rail. A page is a module with `build(ui)`; its address is `/NAME`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from app.pages import chains, chat, data, disk, export, home, make, models, queue, runs, settings, train
from app.ui import Ui


class Page(Protocol):
    """A module that lays out one page."""

    @property
    def build(self) -> Callable[[Ui], None]: ...


PAGES: dict[str, Page] = {
    "home": home,
    "data": data,
    "make": make,
    "train": train,
    "chains": chains,
    "queue": queue,
    "runs": runs,
    "chat": chat,
    "models": models,
    "export": export,
    "disk": disk,
    "settings": settings,
}
