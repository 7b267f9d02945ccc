"""Taking a file in: a copy of our own in the staging folder, so that nothing can change it under the import."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import uuid
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
