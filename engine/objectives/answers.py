"""The rows of answers that were judged, as tokens; shared by the objectives that learn from preferences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engine.specs.problem import ProblemError, problem


def pairs(row: dict[str, Any], renderer: Any, room: Any, kind: str) -> Sequence[Any]:
    """Two answers to one prompt as an objective `kind` learns from them.

    Raises:
        ProblemError: a pair is to be split, or the template refuses the row.
    """
    rendered = renderer.preference(row["prompt"], row["chosen"], row["rejected"], row.get("tools"))
    return _fitted(rendered, room, kind)


def single(row: dict[str, Any], renderer: Any, room: Any, kind: str) -> Sequence[Any]:
    """One answer to a prompt as an objective `kind` learns from it.

    Raises:
        ProblemError: an answer is to be split, or the template refuses the row.
    """
    return _fitted(renderer.answer(row["prompt"], row["completion"], row.get("tools")), room, kind)


def _fitted(rendered: Any, room: Any, kind: str) -> Sequence[Any]:
    if room.truncation == "split":
        raise ProblemError([problem("objective_cannot_split", field="data.truncation", objective=kind)])
    found: Sequence[Any] = rendered.fit(room.or_else("cut_end"))
    return found
