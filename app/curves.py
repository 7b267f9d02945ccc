"""Which curves a run has, in which order, and what the page tells the charts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy.orm import Session

from app.language import Text
from app.render import Html, tag
from engine.objectives import OBJECTIVES, rewards
from engine.objectives.protocol import Objective
from engine.specs.job import measure_of
from storage import metrics

COMMON = ("loss", "learning_rate", "grad_norm", "tokens_per_second")
PER_TASK = ("task_loss/", "task_reward/")
"""What the curves of task types are named by."""
EXACT = ("learning_rate",)
"""Set, not measured: never smoothed."""
WORDS = ("smoothing", "log", "reset", "table", "step", "best", "evaluation", "waiting", "live", "reconnecting")


def chart_names(spec: Mapping[str, Any], tasks: Sequence[str] = ()) -> list[str]:
    """Return the curves of a run, the one that it is judged by first.

    They are those that every run has, those of its objective, and those of its task types.
    """
    objective, judged = objective_of(spec), judged_by(spec).removeprefix("eval_")
    own = [*(objective.curves if objective else ()), *rewards.curves(spec.get("objective") or {})]
    return [*sorted([COMMON[0], *own], key=lambda name: name != judged), *COMMON[1:], *tasks]


def objective_of(spec: Mapping[str, Any]) -> Objective | None:
    """Return the objective of a run's spec; None where this version has no such one."""
    return OBJECTIVES.get(str((spec.get("objective") or {}).get("kind")))


def judged_by(spec: Mapping[str, Any]) -> str:
    """Return the measure that the best checkpoint of a run is chosen by."""
    best_by = (spec.get("training") or {}).get("best_by", "auto")
    return measure_of(str((spec.get("objective") or {}).get("kind")), best_by)


def metric_names(spec: Mapping[str, Any], tasks: Sequence[str] = ()) -> list[str]:
    """Return the metrics behind the charts of a run, those of the evaluation included."""
    names = chart_names(spec, tasks)
    return [*names, *(f"eval_{name}" for name in names)]


def task_curves(session: Session, run: int) -> list[str]:
    """Return the curves of a run's task types, as far as there are points of them."""
    told = [prefix + one for one in PER_TASK for prefix in ("", "eval_")]
    names = [name for one in told for name in metrics.names_under(session, run, one)]
    return sorted({name.removeprefix("eval_") for name in names})


def charts(runs: Sequence[int], spec: Mapping[str, Any], t: Text, tasks: Sequence[str] = ()) -> Html:
    """Return the place of the charts; curves.js fills it. The first of `runs` is the chosen one."""
    said = [{"name": name, **_said(name, t), "exact": name in EXACT} for name in chart_names(spec, tasks)]
    objective = objective_of(spec)
    if objective is not None and objective.best_by == "metric":
        said = [{**one, "caption": t("chart.loss.says_little")} if one["name"] == COMMON[0] else one for one in said]
    told = {
        "runs": list(runs),
        "charts": said,
        "words": {word: t(f"chart.word.{word}") for word in WORDS},
    }
    return tag("div", cls="at-curves", data_curves=json.dumps(told, ensure_ascii=False))


def _said(name: str, t: Text) -> dict[str, str]:
    """The title and the caption of a chart."""
    kind, _, task = name.partition("/") if name.startswith(PER_TASK) else (name, "", "")
    return {"title": t(f"chart.{kind}.title", task=task), "caption": t(f"chart.{kind}.caption", task=task)}
