"""Ui: what every page is built from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.language import Text, text
from engine.specs.home import Home
from storage.database import Store


@dataclass(frozen=True, slots=True)
class Ui:
    """The store, the home and the language of the pages that are built with it."""

    store: Store
    home: Home
    language: str

    @property
    def t(self) -> Text:
        """The sentences: `ui.t("home.title")`, `ui.t("runs.left", time="3 s")`."""
        return text(self.language)

    def reason(self, code: str | None, values: Mapping[str, Any] | None = None) -> str:
        """Return the sentence of a job's reason; an empty string where there is none."""
        return self.t.reason(code, values or {}) if code else ""
