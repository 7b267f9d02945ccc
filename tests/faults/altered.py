"""What a case changes about a process before its work begins: its boot, its clock, its catalogue."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy.ext.compiler import compiles

from engine.runtime import machine
from engine.specs.base import Spec
from engine.specs.kinds import KINDS
from storage.clock import now

BOOT, CLOCK, REAL, UNCHECKED = (f"ATELIER_FAULT_{name}" for name in ("BOOT", "CLOCK", "REAL", "UNCHECKED"))
CLOCK_KEY = "fault_clock"
_SHIFT = f"COALESCE((SELECT json_extract(content, '$.value') FROM setting WHERE key = '{CLOCK_KEY}'), 0)"


def apply() -> None:
    """Change this process as its environment says; to be called before the engine's modules are imported by name."""
    if REAL not in os.environ:
        for kind, lane in (("train", "gpu"), ("import", "cpu")):
            KINDS[kind] = replace(KINDS["train"], spec=Spec, module="tests.faults.dryrun", lane=lane)
    if UNCHECKED in os.environ:
        KINDS["export"] = replace(KINDS["export"], module="tests.faults.unchecked")
    if boot := os.environ.get(BOOT):
        machine.boot_id = lambda: boot
    if path := os.environ.get(CLOCK):
        _shift_clocks(Path(path))


def _shifted(real: Callable[[], float], path: Path) -> Callable[[], float]:
    return lambda: real() + float(path.read_text() or 0)


def _shift_clocks(path: Path) -> None:
    """Move this machine's wall clock, and the store's with it: by the seconds in a file, and in a setting.

    The kernel tells the time of its boot by the same clock.
    """
    time.time = _shifted(time.time, path)
    psutil._pslinux.boot_time = _shifted(psutil._pslinux.boot_time, path)

    @compiles(now, "sqlite")
    def _sqlite_now(_element: now, _compiler: Any, **_options: Any) -> str:
        return f"((julianday('now') - 2440587.5) * 86400.0 + {_SHIFT})"
