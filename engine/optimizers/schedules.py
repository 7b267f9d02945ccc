"""How the learning rate moves through a run: a rising share of it, then one of the schedules by name."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Course:
    """What a schedule is drawn from. Steps are those of the optimiser."""

    total: int
    warm: int
    """Steps in which the rate rises from zero."""
    final: float = 0.0
    """The share of the rate that is left at the end."""
    decay_share: float = 0.2
    """The share of the run in which `wsd` falls."""
    power: float = 2.0
    """The exponent of `polynomial`."""

    def done(self, step: int) -> float:
        """How much of what follows the warm-up is over, from 0 to 1."""
        return min(1.0, (step - self.warm) / max(1, self.total - self.warm))

    def left(self, step: int) -> float:
        """How much of what follows the warm-up is to come, from 1 to 0."""
        return max(0.0, (self.total - step) / max(1, self.total - self.warm))


def factor(schedule: str, course: Course) -> Callable[[int], float]:
    """The share of the learning rate at each step, counted from 0."""
    fall = SCHEDULES[schedule]

    def at(step: int) -> float:
        if step < course.warm:
            return step / course.warm
        return course.final + (1.0 - course.final) * max(0.0, fall(step, course))

    return at


def _cosine(step: int, course: Course) -> float:
    return 0.5 * (1.0 + math.cos(math.pi * course.done(step)))


def _linear(step: int, course: Course) -> float:
    return course.left(step)


def _polynomial(step: int, course: Course) -> float:
    return math.pow(course.left(step), course.power)


def _wsd(step: int, course: Course) -> float:
    """Level, and at the end 1 − √x, which Hägele et al. 2024 found better than a straight line."""
    length = min(math.ceil(course.decay_share * course.total), course.total - course.warm)
    fallen = (step - (course.total - length)) / max(1, length)
    return 1.0 - math.sqrt(min(1.0, max(0.0, fallen)))


def _constant(step: int, course: Course) -> float:
    del step, course
    return 1.0


SCHEDULES: dict[str, Callable[[int, Course], float]] = {
    "cosine": _cosine,
    "linear": _linear,
    "wsd": _wsd,
    "polynomial": _polynomial,
    "constant": _constant,
}
