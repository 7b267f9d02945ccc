"""What an error means: memory that ran out, a full disk, a store out of reach, a GPU that failed. Torch-free."""

from __future__ import annotations

import errno
from collections.abc import Iterator

from storage import patience

_NO_MEMORY = (
    "can't allocate memory",  # the CPU's allocator says it in a RuntimeError
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
)
"""How libraries say in words what has an error class elsewhere."""
_CUT_SHORT = ("file write failed", "unexpected pos")
"""How the writer of optimizer files says that the disk took less than it was given; it carries no error number."""
_DEVICE = (
    "uncorrectable ECC error",
    "uncorrectable NVLink error",
    "hardware stack error",
    "unspecified launch failure",
    "fallen off the bus",
    "GPU is lost",
    "NVRM: Xid",
)
"""How CUDA and the driver name a fault of the GPU itself; a new process often works again."""


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what caused it, outermost first."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, on the host or on the device, however deep the error lies."""
    return any(
        isinstance(one, MemoryError)
        or type(one).__name__ == "OutOfMemoryError"
        or any(said in str(one) for said in _NO_MEMORY)
        for one in causes(error)
    )


def is_disk_full(error: BaseException) -> bool:
    """Whether the disk or a quota is full, as the system, a library or the store says it."""
    full = (errno.ENOSPC, errno.EDQUOT)
    return any(
        (isinstance(one, OSError) and one.errno in full)
        or "No space left on device" in str(one)
        or "database or disk is full" in str(one)
        or any(said in str(one) for said in _CUT_SHORT)
        for one in causes(error)
    )


def is_store_lost(error: BaseException) -> bool:
    """Whether the store could not be reached: the work was not at fault, and may be tried again."""
    return any(patience.is_lost(one) for one in causes(error))


def device_fault(error: BaseException) -> str | None:
    """The line that names a fault of the GPU itself; None where none does."""
    lines = (line for one in causes(error) for line in str(one).splitlines())
    return next((line.strip() for line in lines if any(said in line for said in _DEVICE)), None)


def needed_space(error: BaseException) -> dict[str, int]:
    """The bytes that were wanted and that were free, where the error carries them."""
    names = ("needed_bytes", "free_bytes")
    return next(({name: getattr(one, name) for name in names} for one in causes(error) if hasattr(one, names[0])), {})
