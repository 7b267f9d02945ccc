"""How an export is compared with what the run's own model says, by what the model gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from engine.models.agreement import Agreement
from engine.models.sources import Source
from engine.runtime.child import Context
from engine.runtime.export_answers import AnswerCheck
from engine.runtime.export_decisions import DecisionCheck
from engine.runtime.export_order import Order


class Check(Protocol):
    """What the run's own model says, to be compared with what was written."""

    @property
    def source(self) -> Source:
        """What is exported, with all that had to be found out for it."""
        ...

    @property
    def stop_ids(self) -> Sequence[int]:
        """The tokens that end an answer; none for a model that gives none."""
        ...

    def agreement(self, written: Any, folder: Path) -> Agreement:
        """How close the model that was loaded back from the folder is."""
        ...

    def same_tokens(self, folder: Path) -> bool:
        """Whether the written tokenizer and template give the very tokens that were compared on."""
        ...

    def told(self) -> Mapping[str, Any]:
        """On how much it rests, for the page and the card."""
        ...


CHECKS: dict[str, Callable[[Context, Order, Source], Check]] = {
    "language": AnswerCheck.of,
    "classifier": DecisionCheck.of,
    "score": DecisionCheck.of,
}
"""By what the model gives; see `engine/objectives/protocol.py`."""
