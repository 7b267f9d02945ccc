"""Room on the home's disk: what a run that met a full disk needs, and whether it is there now."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

from engine.files import folder_bytes
from engine.runtime.checkpoints import SPACE_FACTOR
from engine.specs.home import Home
from storage.jobs import Attempt, Job

DISK_FULL = "disk_full"
LEAST_BYTES = 64 * 2**20
"""Wanted by a run that has not saved yet."""


def shortage(home: Home, job_id: int, said: Mapping[str, Any]) -> dict[str, int]:
    """Bytes that the run needs and bytes that are free. `said` is what the run itself told of it, if it could."""
    needed = int(said.get("needed_bytes") or max(LEAST_BYTES, SPACE_FACTOR * _last_save_bytes(home, job_id)))
    return {"needed_bytes": needed, "free_bytes": shutil.disk_usage(home.runs).free}


def times_full(history: Sequence[Attempt]) -> int:
    """How many attempts in a row have met a full disk.

    Space that is free may be out of reach, where a quota or the last inode is what is used up.
    """
    return len(list(itertools.takewhile(lambda one: one.outcome == DISK_FULL, reversed(history))))


def has_space(home: Home, job: Job) -> bool:
    """Whether a waiting job can be claimed as far as the disk goes: one that met a full disk waits for its need."""
    if job.reason != DISK_FULL:
        return True
    return shutil.disk_usage(home.runs).free >= int(job.values.get("needed_bytes", 0))


def _last_save_bytes(home: Home, job_id: int) -> int:
    return max((folder_bytes(path) for path in (home.runs / str(job_id)).glob("*/checkpoint-*")), default=0)
