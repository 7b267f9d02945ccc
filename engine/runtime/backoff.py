"""How long a job waits before it is tried again."""

from __future__ import annotations

import random
from collections.abc import Callable

MOST_DOUBLINGS = 7
JITTER = 0.25
"""The share of the pause that chance adds at most: jobs that were lost together do not come back together."""


def pause_s(times: int, *, backoff_s: float, draw: Callable[[], float] = random.random) -> float:
    """Seconds to wait after what has happened `times` in a row before: doubled for each. `draw` is from 0 to 1."""
    return backoff_s * 2.0 ** min(MOST_DOUBLINGS, times) * (1 + JITTER * draw())
