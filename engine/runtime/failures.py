"""What an error means: memory that ran out, a disk that is full. Torch-free."""

from __future__ import annotations

import errno
from collections.abc import Iterator


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what caused it, outermost first."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, on the host or on the device, however deep the error lies."""
    return any(isinstance(one, MemoryError) or type(one).__name__ == "OutOfMemoryError" for one in causes(error))


def is_disk_full(error: BaseException) -> bool:
    """Whether the disk or a quota is full, as the system, a library or the store says it."""
    full = (errno.ENOSPC, errno.EDQUOT)
    return any(
        (isinstance(one, OSError) and one.errno in full)
        or "No space left on device" in str(one)
        or "database or disk is full" in str(one)
        for one in causes(error)
    )
