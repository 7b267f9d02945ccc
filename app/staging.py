"""Taking a file in: a copy of our own in the staging folder, so that nothing can change it under the import."""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from engine.files import sync_file
from engine.specs.home import Home
from engine.specs.limits import max_file_bytes
from engine.specs.problem import ProblemError, problem

SPARE_BYTES = 500 * 10**6
FULL = (errno.ENOSPC, errno.EDQUOT)
"""How the system says that the disk, or a quota, is full."""


def stage(home: Home, source: Path) -> str:
    """Copy a regular file into the staging folder under a new random name, and return that name.

    Raises:
        ProblemError: the file is not there, a link or no regular file, too large, or does not fit on the disk.
    """
    name = uuid.uuid4().hex
    try:
        handle = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise ProblemError([problem(_refusal(error), file=source.name, detail=error.strerror or "")]) from error
    try:
        _check(home, os.fstat(handle), source)
    except BaseException:
        os.close(handle)
        raise
    with os.fdopen(handle, "rb") as incoming:
        _copy(incoming, home.staging / name, source)
    return name


def stage_folder(home: Home, source: Path) -> str:
    """Copy the regular files below a folder into the staging folder, links left out; return its new random name.

    Raises:
        ProblemError: one of them cannot be copied, or they are too large together.
    """
    files = [one for one in sorted(source.rglob("*")) if one.is_file() and not one.is_symlink()]
    named = [(one.relative_to(source), one) for one in files]
    return _gather(home, [(str(name), one) for name, one in named if not _is_hidden(name)], source.name)


def stage_files(home: Home, sources: Sequence[Path]) -> str:
    """Copy several files into one folder of the staging folder, and return its new random name.

    Raises:
        ProblemError: one of them cannot be copied, or they are too large together.
    """
    names = [
        f"{number:03}-{re.sub(r'[^A-Za-z0-9._-]+', '_', one.name)[-100:]}" for number, one in enumerate(sources, 1)
    ]
    return _gather(home, list(zip(names, sources, strict=True)), sources[0].name)


def _is_hidden(name: Path) -> bool:
    return any(part.startswith(".") for part in name.parts)


def _gather(home: Home, files: Sequence[tuple[str, Path]], said: str) -> str:
    try:
        size = sum(one.lstat().st_size for _, one in files)
    except OSError as error:
        raise ProblemError([problem(_refusal(error), file=said, detail=error.strerror or "")]) from error
    if size > max_file_bytes():
        raise ProblemError([problem("file_too_large", file=said, bytes=size, limit=max_file_bytes())])
    folder = home.staging / uuid.uuid4().hex
    try:
        for name, one in files:
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            (home.staging / stage(home, one)).rename(target)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    folder.mkdir(exist_ok=True)
    return folder.name


def _copy(incoming: IO[bytes], target: Path, source: Path) -> None:
    try:
        with target.open("xb") as copy:
            shutil.copyfileobj(incoming, copy, 1 << 20)
            copy.flush()
            os.fsync(copy.fileno())
        sync_file(target.parent)
    except OSError as error:
        target.unlink(missing_ok=True)
        if error.errno in FULL:
            size = os.fstat(incoming.fileno()).st_size
            raise ProblemError([problem("file_no_room", file=source.name, bytes=size)]) from error
        raise ProblemError([problem("file_not_copied", file=source.name, detail=error.strerror or "")]) from error


def _check(home: Home, facts: os.stat_result, source: Path) -> None:
    if not stat.S_ISREG(facts.st_mode):
        raise ProblemError([problem("file_not_regular", file=source.name)])
    if facts.st_size > max_file_bytes():
        raise ProblemError([problem("file_too_large", file=source.name, bytes=facts.st_size, limit=max_file_bytes())])
    if facts.st_size + SPARE_BYTES > shutil.disk_usage(home.staging).free:
        raise ProblemError([problem("file_no_room", file=source.name, bytes=facts.st_size)])


def _refusal(error: OSError) -> str:
    known = {errno.ENOENT: "file_not_found", errno.ELOOP: "file_is_link", errno.ENXIO: "file_not_regular"}
    return known.get(error.errno or 0, "file_unreadable")
