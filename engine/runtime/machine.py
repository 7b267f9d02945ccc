"""Facts of this machine: who we are, what we compute on, and which processes belong together."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import psutil

from engine.specs.home import host_name
from engine.specs.living import is_alive, start_time


def boot_id() -> str:
    """Changes with each start of the machine."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return str(psutil.boot_time())


def host() -> str:
    return host_name()


def session_of(pid: int | None, started_at: float | None) -> list[int]:
    """The living processes of the session that a process began when it was started, itself among them.

    While one of them lives its number is not given anew; where a process of another start has it, all of them are gone.
    """
    if pid is None or (start_time(pid) is not None and not is_alive(pid, started_at)):
        return []
    return [one for one in psutil.pids() if _session(one) == pid and start_time(one) is not None]


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:
        return None


def devices() -> list[dict[str, Any]]:
    """The GPUs that the driver lists, and the CPU."""
    cpu = {"kind": "cpu", "cores": len(os.sched_getaffinity(0)), "memory_bytes": psutil.virtual_memory().total}
    return [*_gpus(), cpu]


def _gpus() -> list[dict[str, Any]]:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    query = [tool, "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    answer = subprocess.run(query, capture_output=True, text=True, timeout=20, check=False)
    if answer.returncode != 0:
        return []
    lines = [line.rsplit(",", 1) for line in answer.stdout.strip().splitlines()]
    return [{"kind": "cuda", "name": name.strip(), "memory_bytes": int(mib) * 2**20} for name, mib in lines]
