"""Opening a file that a stranger gave: no links, no pipes, nothing beyond the limit."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from engine.specs.limits import max_file_bytes
from engine.specs.problem import ProblemError, problem


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """The bytes of an ordinary file.

    Raises:
        ProblemError: it is none, or too large, or empty.
    """
    try:
        number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise ProblemError([problem("file_unreadable", detail=os.strerror(error.errno or 0))]) from error
    state = os.fstat(number)
    if not stat.S_ISREG(state.st_mode):
        os.close(number)
        raise ProblemError([problem("file_not_regular")])
    with os.fdopen(number, "rb") as handle:
        if state.st_size > (limit := max_file_bytes()):
            raise ProblemError([problem("file_too_large", bytes=state.st_size, limit=limit)])
        if state.st_size == 0:
            raise ProblemError([problem("file_empty")])
        yield handle
