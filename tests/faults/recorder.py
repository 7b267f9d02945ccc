"""What would be on the disk if the power were cut now: a record of each fsync and rename, judged as they happen.

A file counts as being on the disk as it was at its last fsync, a folder with the entries that it had then.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any


class Recorder:
    """Watches the calls of this process below a folder.

    `renames` are (new name, old path, new path) in order; `wrong` names what a rename found that was not on the disk,
    and what never got there.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._synced: dict[tuple[int, int], Any] = {}
        self._real = {name: getattr(os, name) for name in ("fsync", "rename", "replace")}
        self._open_parents: dict[Path, Path] = {}
        self.renames: list[tuple[str, Path, Path]] = []
        self.wrong: list[tuple[str, str]] = []

    def __enter__(self) -> Recorder:
        os.fsync = self._fsync
        os.rename, os.replace = self._mover("rename"), self._mover("replace")
        return self

    def __exit__(self, *_: object) -> None:
        for name, function in self._real.items():
            setattr(os, name, function)
        self.wrong += [(path.name, "never reached the disk") for path in self._open_parents.values()]

    def judge(self, path: Path) -> None:
        """Note what of a file, or of a folder with all that is in it, is not on the disk."""
        for one in [path, *(path.rglob("*") if path.is_dir() else [])]:
            if self._synced.get(_identity(one)) != _contents(one):
                what = "its entries are not on the disk" if one.is_dir() else "not on the disk"
                self.wrong.append((one.name, what))

    def _fsync(self, handle: int) -> None:
        self._real["fsync"](handle)
        path = Path(os.readlink(f"/proc/self/fd/{handle}"))
        self._synced[_identity(path)] = _contents(path)
        self._open_parents.pop(path, None)

    def _mover(self, name: str) -> Any:
        def move(source: Any, target: Any, **options: Any) -> None:
            before, after = Path(source), Path(target)
            if before.is_relative_to(self._root):
                self.judge(before)
                self.renames.append((after.name, before, after))
                self._open_parents[after.parent] = after
            self._real[name](source, target, **options)

        return move


def _identity(path: Path) -> tuple[int, int]:
    state = path.stat()
    return state.st_dev, state.st_ino


def _contents(path: Path) -> Any:
    return sorted(os.listdir(path)) if path.is_dir() else path.read_bytes()
