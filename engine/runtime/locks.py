"""File locks that the kernel frees with the last process that holds them."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


def take(path: Path) -> int | None:
    """Take an exclusive lock; the open descriptor holds it. None if someone else has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    return handle


def sweep(folder: Path) -> None:
    """Remove the locks of runs that nobody holds; for the worker of the host alone, since no other takes them."""
    for path in folder.glob("run-*.lock"):
        handle = take(path)
        if handle is not None:
            path.unlink()
            os.close(handle)
