"""Whether a process is the very one that was started then: its number alone may long be someone else's."""

from __future__ import annotations

import sys
from pathlib import Path

import psutil

PLACE = 19
"""Of the start time among the words of `/proc/PID/stat` that follow the name, the state being the first."""
ENDED = (b"Z", b"X")


def start_time(pid: int) -> float | None:
    """Return when a process was started; None if it is gone.

    On Linux in ticks since the boot, which no setting of the clock moves; elsewhere in seconds since the epoch. Only
    good for a comparison on the same boot of the same host.
    """
    if sys.platform == "linux":
        return _ticks(pid)
    try:
        found = psutil.Process(pid)
        return None if found.status() == psutil.STATUS_ZOMBIE else found.create_time()
    except psutil.NoSuchProcess:
        return None


def _ticks(pid: int) -> float | None:
    try:
        line = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    words = line.rpartition(b")")[2].split()
    return None if words[0] in ENDED else float(words[PLACE])


def is_alive(pid: int | None, started_at: float | None) -> bool:
    """Tell whether the very process that was started then still lives.

    What a version before this one wrote down, in seconds, fits no process: it counts as dead. That alone takes no job
    back, since a run's lock, which its process holds, is asked too.
    """
    if pid is None:
        return False
    now_there = start_time(pid)
    return now_there is not None and (started_at is None or abs(now_there - started_at) < 0.5)
