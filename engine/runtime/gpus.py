"""GPU locks: on each GPU one heavy job of a user computes at a time, whichever of the user's studios it belongs to."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from engine.runtime import locks


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU that is ours for as long as the descriptor `lock`, or a child's copy of it, is open."""

    name: str
    """What CUDA calls it: its index or its UUID."""
    lock: int

    @property
    def environment(self) -> dict[str, str]:
        """What makes it the only one that a child sees."""
        return {"CUDA_VISIBLE_DEVICES": self.name}

    def release(self) -> None:
        """Close our copy of the lock."""
        os.close(self.lock)


def names(number: int, environment: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """The GPUs that may be used: those that `CUDA_VISIBLE_DEVICES` names, else all that the driver lists."""
    listed = environment.get("CUDA_VISIBLE_DEVICES")
    if number == 0 or listed is None:
        return tuple(str(index) for index in range(number))
    return tuple(name.strip() for name in listed.split(",") if name.strip() and not name.strip().startswith("-"))


def take(candidates: tuple[str, ...], folder: Path | None = None) -> Gpu | None:
    """Take the first GPU that nobody computes on; None where all are in use."""
    folder = folder or Path(tempfile.gettempdir()) / f"atelier-gpus-{os.getuid()}"
    for name in candidates:
        lock = locks.take(folder / f"{re.sub(r'[^A-Za-z0-9-]', '_', name)}.lock")
        if lock is not None:
            return Gpu(name, lock)
    return None
