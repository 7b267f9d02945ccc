"""Named points at which a test lets a process die as under SIGKILL; inert unless `ATELIER_CRASH_AT` names one."""

from __future__ import annotations

import os
import signal

CRASH_POINTS = (
    "worker_claimed",
    "worker_spawned",
    "worker_started",
    "worker_before_renew",
    "worker_renewed",
    "worker_before_settle",
    "worker_settled",
    "trainer_resumed",
    "checkpoint_begun",
    "checkpoint_written",
    "checkpoint_before_rename",
    "checkpoint_after_rename",
    "checkpoint_listed",
    "merge_listed",
    "result_written",
)
"""The points in the order in which a run passes them; `step_N` besides, at the end of that step."""


def crash_here(name: str) -> None:
    """Die if this is the point that `ATELIER_CRASH_AT` names.

    With `ATELIER_CRASH_ONCE`, the path of a file that is made on the way, only the first to come here dies.
    """
    if os.environ.get("ATELIER_CRASH_AT") != name:
        return
    if once := os.environ.get("ATELIER_CRASH_ONCE"):
        try:
            os.close(os.open(once, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except FileExistsError:
            return
    os.kill(os.getpid(), signal.SIGKILL)
