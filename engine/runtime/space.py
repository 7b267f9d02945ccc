"""Room on the home's disk: what a run that met a full disk needs, and whether it is there now."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from typing import Any

from engine.files import folder_bytes
from engine.runtime.checkpoints import SPACE_FACTOR
from engine.specs.home import Home
from storage.jobs import Job

DISK_FULL = "disk_full"
LEAST_BYTES = 64 * 2**20
"""Wanted by a run that has not saved yet."""
MORE_BYTES = 2**20


def shortage(home: Home, job_id: int, said: Mapping[str, Any]) -> dict[str, int]:
    """Bytes that the run needs and bytes that are free. `said` is what the run itself told of it, if it could.

    The need is always more than what is free: a quota or the last inode may be what is used up.
    """
    free = shutil.disk_usage(home.runs).free
    needed = int(said.get("needed_bytes") or max(LEAST_BYTES, SPACE_FACTOR * _last_save_bytes(home, job_id)))
    return {"needed_bytes": max(needed, free + MORE_BYTES), "free_bytes": free}


def has_space(home: Home, job: Job) -> bool:
    """Whether a waiting job can be claimed as far as the disk goes: one that met a full disk waits for its need."""
    if job.reason != DISK_FULL:
        return True
    return shutil.disk_usage(home.runs).free >= int(job.values.get("needed_bytes", 0))


def _last_save_bytes(home: Home, job_id: int) -> int:
    return max((folder_bytes(path) for path in (home.runs / str(job_id)).glob("*/checkpoint-*")), default=0)
