"""Files that are there whole or not at all: write beside, flush to disk, rename."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def sync_file(path: Path) -> None:
    """Flush a file or folder to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Replace `path` by the JSON of `data` in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("w", encoding="utf-8") as handle:
        json.dump(data, handle, ensure_ascii=False, allow_nan=False, sort_keys=True)
        handle.flush()
        os.fsync(handle.fileno())
    temporary.replace(path)
    sync_file(path.parent)


def publish(temporary: Path, final: Path, *, seen: Callable[[], None] = lambda: None) -> None:
    """Rename a finished folder into place after everything in it has reached the disk; an older `final` goes.

    `seen` is called before each file.
    """
    for path in sorted(temporary.rglob("*")):
        seen()
        sync_file(path)
    sync_file(temporary)
    if final.exists():
        shutil.rmtree(final)
    temporary.rename(final)
    sync_file(final.parent)


def folder_bytes(folder: Path) -> int:
    """Bytes of all regular files below a folder; 0 if it is not there."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
