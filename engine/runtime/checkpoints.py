"""Checkpoints: staged, flushed, listed in a manifest, renamed; used only while the manifest verifies."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.files import folder_bytes, publish, write_json
from engine.runtime.crashing import crash_here

MANIFEST = "manifest.json"
BLOCK = 16 * 2**20
SPACE_FACTOR = 1.2
"""Free space wanted before a save, as a multiple of the last one's size."""


class BrokenCheckpoint(Exception):
    """The folder is not what its manifest says; `why` is the code of the difference, `file` where it is."""

    def __init__(self, folder: Path, why: str, file: str) -> None:
        self.folder, self.why, self.file = folder, why, file
        super().__init__(f"{folder.name}: {why} ({file})")


class NoSpace(OSError):
    """A checkpoint would not fit the disk; nothing was written."""

    def __init__(self, needed_bytes: int, free_bytes: int) -> None:
        self.needed_bytes, self.free_bytes = needed_bytes, free_bytes
        said = f"{os.strerror(errno.ENOSPC)}: a checkpoint needs {needed_bytes} bytes, {free_bytes} are free"
        super().__init__(errno.ENOSPC, said)


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a checkpoint holds. `sha256` is that of the manifest file itself."""

    step: int
    token: int
    spec_sha: str
    files: Mapping[str, Mapping[str, Any]]
    sha256: str
    num_bytes: int


def sha256_of(path: Path, *, seen: Callable[[], None] = lambda: None) -> str:
    """Hex digest of a file's bytes; `seen` is called at each block."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as handle:
        while block := handle.read(BLOCK):
            digest.update(block)
            seen()
    return digest.hexdigest()


def spec_sha(spec: Mapping[str, Any]) -> str:
    """Hex digest of a spec: a checkpoint is resumed only by the run that wrote it."""
    return hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()


def save(
    parent: Path,
    write: Callable[[Path], None],
    *,
    step: int,
    token: int,
    spec: Mapping[str, Any],
    seen: Callable[[], None] = lambda: None,
) -> tuple[Path, Manifest]:
    """Write a checkpoint by `write(folder)` and publish it as `parent/checkpoint-STEP`; `seen` is called on the way.

    Raises:
        OSError: the disk is full or fails; nothing that was there before is touched.
    """
    final = parent / f"checkpoint-{step}"
    staged = parent / f".tmp-{step}-{token}"
    shutil.rmtree(staged, ignore_errors=True)
    _check_space(parent)
    staged.mkdir(parents=True)
    crash_here("checkpoint_begun")
    try:
        write(staged)
        crash_here("checkpoint_written")
        _write_manifest(staged, step=step, token=token, spec=spec, seen=seen)
        crash_here("checkpoint_before_rename")
        publish(staged, final, seen=seen)
        crash_here("checkpoint_after_rename")
    except BaseException:
        shutil.rmtree(staged, ignore_errors=True)
        raise
    return final, verify(final, deep=False)


def _check_space(parent: Path) -> None:
    parent.mkdir(parents=True, exist_ok=True)
    earlier = sorted(parent.parent.glob("*/checkpoint-*"), key=lambda path: path.stat().st_mtime)
    if not earlier:
        return
    require_space(parent, folder_bytes(earlier[-1]))


def require_space(folder: Path, num_bytes: int) -> None:
    """Check that a checkpoint of that size fits, with room to spare.

    Raises:
        NoSpace: before anything is written.
    """
    wanted, free = int(SPACE_FACTOR * num_bytes), shutil.disk_usage(folder).free
    if free < wanted:
        raise NoSpace(wanted, free)


def _write_manifest(folder: Path, *, step: int, token: int, spec: Mapping[str, Any], seen: Callable[[], None]) -> None:
    from importlib.metadata import version

    files = {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256_of(path, seen=seen)}
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    versions = {name: version(name) for name in ("torch", "transformers", "peft", "trl")}
    write_json(
        folder / MANIFEST,
        {"step": step, "token": token, "spec_sha": spec_sha(spec), "files": files, "versions": versions},
    )


def verify(folder: Path, *, deep: bool = True, seen: Callable[[], None] = lambda: None) -> Manifest:
    """Read the manifest and check the files against it: names and sizes, and with `deep` their digests.

    `seen` is called at each block that is read.

    Raises:
        BrokenCheckpoint: a file is missing, added or changed, or the manifest cannot be read.
    """
    path = folder / MANIFEST
    try:
        text = path.read_bytes()
        data = json.loads(text)
        files: dict[str, dict[str, Any]] = data["files"]
        step, token, spec = int(data["step"]), int(data["token"]), str(data["spec_sha"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BrokenCheckpoint(folder, "unreadable", MANIFEST) from error
    present = {one.relative_to(folder).as_posix() for one in folder.rglob("*") if one.is_file()} - {MANIFEST}
    if difference := present ^ set(files):
        raise BrokenCheckpoint(folder, "other_files", ", ".join(sorted(difference)))
    for name, expected in files.items():
        if os.path.getsize(folder / name) != expected["bytes"]:
            raise BrokenCheckpoint(folder, "other_size", name)
        if deep and sha256_of(folder / name, seen=seen) != expected["sha256"]:
            raise BrokenCheckpoint(folder, "other_contents", name)
    total = sum(int(one["bytes"]) for one in files.values()) + len(text)
    return Manifest(step, token, spec, files, hashlib.sha256(text).hexdigest(), total)


def sweep_attempt(folder: Path) -> None:
    """Remove what a killed process left half-made in its attempt's folder."""
    for leftover in folder.glob(".*"):
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def unlisted(parent: Path, listed: Collection[tuple[int, int]]) -> list[Path]:
    """The checkpoint folders below `parent` whose token and step are not listed, first step first.

    A save that was killed between its rename and its row leaves one.
    """
    found = {path: (int(path.parent.name), int(path.name.rsplit("-", 1)[1])) for path in parent.glob("*/checkpoint-*")}
    return sorted((path for path, place in found.items() if place not in listed), key=lambda path: found[path][1])


def sweep(parent: Path) -> None:
    """Remove what killed saves left behind in the attempts' folders below `parent`."""
    for leftover in [*parent.glob("*/.tmp-*"), *parent.glob("*/.library")]:
        shutil.rmtree(leftover, ignore_errors=True)
