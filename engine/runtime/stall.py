"""A run that stands still: seen by the worker's own clock from what the run tells of its progress."""

from __future__ import annotations

from collections import deque
from statistics import median

from storage.jobs import Flags

MEDIAN_STEPS = 20.0
"""How many of its own median steps a run may be silent for, where that is longer than the setting."""
LOADING = 6.0
"""How many times as long a run may be silent that has not made a step yet: it loads, proves, compiles, measures."""
STEPS_KEPT = 51
LONGEST_LOOK_S = 5.0


class Pulse:
    """The silence of one child in seconds. `look` is told the monotonic clock and what the store says."""

    def __init__(self, now: float) -> None:
        self.silent_s = 0.0
        self._looked = self._stepped = now
        self._told: tuple[int | None, float | None] = (None, None)
        self._paces: deque[float] = deque(maxlen=STEPS_KEPT)

    def look(self, now: float, flags: Flags) -> None:
        """Take in a report. Time in which we ourselves did not look counts little: the machine may have slept."""
        self.silent_s += min(now - self._looked, LONGEST_LOOK_S)
        self._looked = now
        before, told = self._told, (flags.step, flags.progress_at)
        if told == before:
            return
        self.silent_s, self._told = 0.0, told
        if flags.step != before[0]:
            if flags.step is not None and before[0] is not None and flags.step > before[0]:
                self._paces.append((now - self._stepped) / (flags.step - before[0]))
            self._stepped = now

    def limit_s(self, least_s: float) -> float:
        """How long a silence is borne: `least_s`, or 20 median steps where those take longer; more before the first."""
        return max(least_s, MEDIAN_STEPS * median(self._paces)) if self._paces else LOADING * least_s
