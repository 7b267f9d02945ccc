"""What a run would compute on, known without loading torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy.orm import Session

from storage import workers

DRIVER = Path("/proc/driver/nvidia/gpus")


def seen() -> list[dict[str, Any]]:
    """Return what this machine shows: the GPUs that the driver lists, and the CPU."""
    with_driver = [{"kind": "cuda", "name": path.name} for path in sorted(DRIVER.glob("*"))]
    cpu = {"kind": "cpu", "cores": psutil.cpu_count() or 1, "memory_bytes": psutil.virtual_memory().total}
    return [*with_driver, cpu]


def found(session: Session) -> list[dict[str, Any]]:
    """Return what the live workers compute on, else what this machine shows: a worker is started on it."""
    return [device for one in workers.live(session) for device in one.devices] or seen()


def kind(devices: Iterable[Mapping[str, Any]]) -> str:
    """Return the kind of device that a run takes by itself."""
    return "cuda" if any(one.get("kind") == "cuda" for one in devices) else "cpu"
