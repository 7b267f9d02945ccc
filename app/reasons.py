"""Why a value is what it is, and how that is said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from app.language import Text
from app.measure import plain
from engine.advice.advice import Advice


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a value that nobody set is what it is: a sentence's key and values, and where the rule comes from."""

    key: str
    values: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""

    @classmethod
    def of(cls, advice: Advice) -> Reason:
        return cls(f"advice.{advice.code}", advice.values, advice.source)


def sentence(reason: Reason, t: Text) -> str:
    """Return a reason with its source; empty where there are no words for it."""
    if not t.has(reason.key):
        return ""
    values = {key: plain(value) if isinstance(value, int | float) else value for key, value in reason.values.items()}
    source = t.get(f"source.{reason.source}")
    told = t(reason.key, **values)
    return f"{told} ({source})" if source else told
