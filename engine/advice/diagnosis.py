"""Reading the curves: what the shape of a run's loss means and what to do. Findings for the note under the charts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, pstdev

from engine.advice.advice import Advice

Points = Sequence[tuple[int, float | None]]
Series = Mapping[str, Points]

MIN_POINTS = 12
OVERFITTING = 1.03
"""Evaluation loss this far above its least value has turned."""
FLAT = 0.02
JUMPY = 0.25
MEMORISED = 0.05
RISING = 1.5
ALIKE = "frac_reward_zero_std"
"""Of runs that learn from rewards: their loss is near zero by construction, and says nothing."""


def diagnose(series: Series, phase: str, measure: str = "eval_loss") -> list[Advice]:
    """What the curves of a run say; nothing while there are too few points. `phase` is `running` or `finished`.

    `measure` is what its best checkpoint is chosen by: where that is not the evaluation loss, that says little.
    Broken values come first, then the most telling finding about the loss, then those of preference runs.
    """
    broken = _broken(series)
    if broken:
        return broken
    if ALIKE in series:
        return _rewarded(series)
    loss = _finite(series.get("loss", ()))
    evaluation = _finite(series.get("eval_loss", ())) if measure == "eval_loss" else []
    found: list[Advice] = []
    if len(loss) >= MIN_POINTS:
        first = next((advice for advice in (_by_eval(loss, evaluation), _by_train(loss, phase)) if advice), None)
        found += [first] if first else []
    return found + _preference(series)


def _broken(series: Series) -> list[Advice]:
    for name in ("loss", "eval_loss", "grad_norm"):
        for step, value in series.get(name, ()):
            if value is None or not math.isfinite(value):
                return [Advice(None, "not_finite", {"name": name, "step": step}, "notes_curves")]
    loss = _finite(series.get("loss", ()))
    if ALIKE not in series and len(loss) >= 3 and all(value == 0.0 for _, value in loss[-3:]):
        return [Advice(None, "zero_loss", {"step": loss[-1][0]}, "notes_curves")]
    return []


def _rewarded(series: Series) -> list[Advice]:
    alike = _finite(series[ALIKE])[-3:]
    if len(alike) == 3 and all(value == 1.0 for _, value in alike):
        return [Advice(None, "rewards_alike", {"step": alike[-1][0]}, "notes_curves")]
    return []


def _by_eval(loss: list[tuple[int, float]], evaluation: list[tuple[int, float]]) -> Advice | None:
    if len(evaluation) < 3:
        return None
    best_step, best = min(evaluation, key=lambda point: point[1])
    last = evaluation[-1][1]
    falling = _mean(loss[-len(loss) // 3 :]) < _mean(loss[: len(loss) // 3])
    if last > best * OVERFITTING and evaluation[-1][0] > best_step and falling:
        return Advice(
            None, "overfitting", {"step": best_step, "best": round(best, 4), "last": round(last, 4)}, "notes_curves"
        )
    if evaluation[-1][1] < evaluation[-2][1] * 0.99 and evaluation[-1][1] == best:
        return Advice(None, "still_falling", {"last": round(last, 4)}, "notes_curves")
    return None


def _by_train(loss: list[tuple[int, float]], phase: str) -> Advice | None:
    third = len(loss) // 3
    start, end = loss[:third], loss[-third:]
    before, after = _mean(start), _mean(end)
    if after > before * RISING:
        return Advice(None, "rising", {"before": round(before, 3), "after": round(after, 3)}, "notes_curves")
    trend = abs(after - before) / max(before, 1e-9)
    roughness = pstdev(value for _, value in end) / max(after, 1e-9)
    if trend < roughness / 2 and roughness > JUMPY:
        return Advice(None, "jumping", {"share": round(100 * roughness)}, "notes_curves")
    if trend < FLAT and after > 1.0:
        return Advice(None, "flat", {"value": round(after, 3)}, "notes_curves")
    if phase == "finished" and after < MEMORISED:
        return Advice(None, "memorised", {"value": round(after, 4)}, "notes_curves")
    return None


def _preference(series: Series) -> list[Advice]:
    chosen = _finite(series.get("rewards/chosen", ()))
    accuracy = _finite(series.get("rewards/accuracies", ()))
    found: list[Advice] = []
    if len(chosen) >= MIN_POINTS and _mean(chosen[-5:]) < -5.0:
        found.append(Advice(None, "chosen_reward_falls", {"value": round(_mean(chosen[-5:]), 2)}, "notes_curves"))
    if len(accuracy) >= MIN_POINTS and abs(_mean(accuracy[-len(accuracy) // 3 :]) - 0.5) < 0.05:
        found.append(Advice(None, "no_preference_yet", {"value": round(_mean(accuracy[-5:]), 2)}, "notes_curves"))
    return found


def _finite(points: Points) -> list[tuple[int, float]]:
    return [(step, value) for step, value in points if value is not None and math.isfinite(value)]


def _mean(points: Sequence[tuple[int, float]]) -> float:
    return fmean(value for _, value in points)
