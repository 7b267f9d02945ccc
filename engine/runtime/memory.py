"""Memory that ran out: the kernel's count of processes ended for it, and the smaller batch of the next attempt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.advice.memory import smaller_batch
from storage.jobs import Attempt

PROC = Path("/proc")
GROUPS = Path("/sys/fs/cgroup")


class Kills:
    """Whether the kernel has ended a process for want of memory in a group that a child was seen in."""

    def __init__(self, pid: int, *, proc: Path = PROC, groups: Path = GROUPS) -> None:
        self._pid, self._proc, self._groups = pid, proc, groups
        self._before: dict[Path, int] = {}
        self.look()

    def look(self) -> None:
        """Remember the counts of the groups that the child is in now."""
        for path in _counters(self._pid, self._proc, self._groups):
            if path not in self._before:
                self._before[path] = _count(path)

    def moved(self) -> bool:
        """Whether a count has grown since it was first seen."""
        return any(_count(path) > before for path, before in self._before.items())


def _counters(pid: int, proc: Path, groups: Path) -> list[Path]:
    """The files that count, of control groups 1 and 2; where there are none, the machine's own."""
    try:
        lines = (proc / str(pid) / "cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    found = [path for line in lines for path in _files_of(line, groups) if path.is_file()]
    return found or [proc / "vmstat"]


def _files_of(line: str, groups: Path) -> Iterator[Path]:
    """`ID:controllers:path`. In a container the path may be the host's: then the root of the tree is our group."""
    _, controllers, path = line.split(":", 2)
    if "memory" in controllers.split(","):
        yield from (groups / "memory" / part / "memory.oom_control" for part in dict.fromkeys([path.strip("/"), ""]))
    elif not controllers:
        yield from (groups / part / "memory.events" for part in dict.fromkeys([path.strip("/"), ""]))


def _count(path: Path) -> int:
    try:
        text = path.read_text(encoding="ascii")
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in text.splitlines() if line.startswith("oom_kill ")), 0)


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows per forward pass, and passes per optimiser step."""

    size: int
    accumulation: int

    def smaller(self, least: int = 1) -> Batch | None:
        """The largest batch of at most half the rows that makes up the same step; None where it would be too small."""
        size = smaller_batch(self.size, least)
        return None if size is None else Batch(size, self.accumulation * (self.size // size))

    def as_overrides(self) -> dict[str, int]:
        """As an attempt records it."""
        return {"batch_size": self.size, "gradient_accumulation": self.accumulation}


def batch_after(training: Mapping[str, Any], history: Sequence[Attempt], *, least: int = 1) -> Batch:
    """The batch of the attempt that follows: the spec's, made smaller for each attempt that ran out of memory.

    `least` are the fewest rows that its objective works on.
    """
    batch = Batch(training["batch_size"], training["gradient_accumulation"])
    for attempt in history:
        if attempt.overrides:
            batch = Batch(attempt.overrides["batch_size"], attempt.overrides["gradient_accumulation"])
        if attempt.outcome == "out_of_memory":
            batch = batch.smaller(least) or batch
    return batch
