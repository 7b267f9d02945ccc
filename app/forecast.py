"""When the jobs of the queue will begin and end: reckoned from what earlier runs took, and never guessed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

SPEED = (
    "model.id", "model.quantization", "model.dtype", "data.max_length", "data.packing", "objective", "tuner",
    "training.batch_size", "training.gradient_accumulation", "training.gradient_checkpointing", "training.precision",
    "training.optimizer", "training.ema_decay", "training.compile", "training.kernels", "resources.devices",
)  # fmt: skip
"""The settings that decide how long a step takes."""
ROWS = (
    "data.dataset", "data.version", "data.sha256", "data.eval_fraction", "data.eval_by", "data.max_length",
    "data.packing", "data.truncation", "objective", "model.id", "model.chat_template", "training.batch_size",
    "training.gradient_accumulation",
)  # fmt: skip
"""The settings that decide how many steps an epoch has."""


@dataclass(frozen=True, slots=True)
class Earlier:
    """A run that has ended well: its spec, its steps, and the seconds that one took."""

    spec: Mapping[str, Any]
    total: int | None
    pace_s: float | None


@dataclass(frozen=True, slots=True)
class Work:
    """A job as the forecast sees it. Times are seconds since the epoch."""

    id: int
    lane: str
    seconds: float | None
    """What it still takes once it runs; None is not known."""
    running: bool = False
    held: bool = False
    not_before: float | None = None


@dataclass(frozen=True, slots=True)
class Span:
    """When a job begins and ends; None is not yet known."""

    start: float | None = None
    end: float | None = None


def seconds_needed(
    spec: Mapping[str, Any], *, step: int, total: int | None, pace_s: float | None, earlier: Sequence[Earlier]
) -> float | None:
    """What a run still takes: its own steps at its own pace, else those of earlier runs that are like it."""
    steps = total if total is not None else _steps(spec, earlier)
    pace = pace_s if pace_s is not None else _pace_s(spec, earlier)
    return None if steps is None or pace is None else max(0, steps - step) * pace


def seconds_left(took: Sequence[float], elapsed: float) -> float | None:
    """What a job without known steps still takes: the median of its kind; None where it has taken longer already."""
    usual = median(took) if took else 0.0
    return usual - elapsed if usual > elapsed else None


def _pace_s(spec: Mapping[str, Any], earlier: Sequence[Earlier]) -> float | None:
    known = [one for one in earlier if one.pace_s is not None and _same(one.spec, spec, SPEED)]
    known.sort(key=lambda one: not _same(one.spec, spec, ROWS))  # the same rows are as long; else the newest counts
    return known[0].pace_s if known else None


def _steps(spec: Mapping[str, Any], earlier: Sequence[Earlier]) -> int | None:
    for one in earlier:
        if one.total is None or not _same(one.spec, spec, ROWS):
            continue
        if _same(one.spec, spec, ("training.epochs", "training.max_steps")):
            return one.total
        then, wanted = _at(one.spec, "training.epochs"), _at(spec, "training.epochs")
        if _at(one.spec, "training.max_steps") is None and then and wanted:
            return _capped(math.ceil(one.total * wanted / then), _at(spec, "training.max_steps"))
    return None


def _capped(steps: int, most: int | None) -> int:
    return steps if most is None else min(steps, most)


def _same(one: Mapping[str, Any], other: Mapping[str, Any], paths: Iterable[str]) -> bool:
    return all(_at(one, path) == _at(other, path) for path in paths)


def _at(spec: Mapping[str, Any], path: str) -> Any:
    found: Any = spec
    for part in path.split("."):
        found = (found or {}).get(part)
    return found


def forecast(work: Sequence[Work], room: Mapping[str, int], now: float) -> dict[int, Span]:
    """Return the spans of jobs that stand in the order in which they are taken; `room` is jobs at a time by lane."""
    spans = {one.id: Span() for one in work}
    for lane in {one.lane for one in work}:
        spans |= _lane([one for one in work if one.lane == lane], room.get(lane, 0), now)
    return spans


def _lane(work: Sequence[Work], room: int, now: float) -> dict[int, Span]:
    running = [one for one in work if one.running]
    spans = {one.id: Span(now, None if one.seconds is None else now + one.seconds) for one in running}
    free: list[float | None] = [spans[one.id].end for one in running] + [now] * max(0, room - len(running))
    waiting = [one for one in work if not one.running and not one.held]
    while waiting and room:
        place = _first_free(free, now)
        if place is None:
            break
        at = max(now, free[place] or now)
        ready = [one for one in waiting if (one.not_before or at) <= at]
        following = ready[0] if ready else min(waiting, key=lambda one: one.not_before or at)
        begin = max(at, following.not_before or at)
        spans[following.id] = Span(begin, None if following.seconds is None else begin + following.seconds)
        free[place] = spans[following.id].end
        waiting.remove(following)
    return spans


def _first_free(free: Sequence[float | None], now: float) -> int | None:
    """The place that is free first; None where that cannot be told, since one may be free at any time."""
    known = [(at, place) for place, at in enumerate(free) if at is not None]
    first = min(known, default=None)
    if first is None or (len(known) < len(free) and first[0] > now):
        return None
    return first[1]
