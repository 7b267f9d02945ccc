"""Which curves a run has, in which order, and what the page tells the charts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from app.language import Text
from app.render import Html, tag
from engine.objectives import OBJECTIVES, rewards

COMMON = ("loss", "learning_rate", "grad_norm", "tokens_per_second")
EXACT = ("learning_rate",)
"""Set, not measured: never smoothed."""
WORDS = ("smoothing", "log", "reset", "table", "step", "best", "evaluation", "waiting", "live", "reconnecting")


def chart_names(spec: Mapping[str, Any]) -> list[str]:
    """Return the curves of a run: those that every run has, and those of its objective."""
    section = spec.get("objective") or {}
    objective = OBJECTIVES.get(str(section.get("kind")))
    own = list(objective.curves) if objective else []
    return [COMMON[0], *own, *rewards.curves(section), *COMMON[1:]]


def metric_names(spec: Mapping[str, Any]) -> list[str]:
    """Return the metrics behind the charts of a run, those of the evaluation included."""
    names = chart_names(spec)
    return [*names, *(f"eval_{name}" for name in names)]


def charts(runs: Sequence[int], spec: Mapping[str, Any], t: Text) -> Html:
    """Return the place of the charts; curves.js fills it. The first of `runs` is the chosen one."""
    told = {
        "runs": list(runs),
        "charts": [
            {
                "name": name,
                "title": t(f"chart.{name}.title"),
                "caption": t(f"chart.{name}.caption"),
                "exact": name in EXACT,
            }
            for name in chart_names(spec)
        ],
        "words": {word: t(f"chart.word.{word}") for word in WORDS},
    }
    return tag("div", cls="at-curves", data_curves=json.dumps(told, ensure_ascii=False))
