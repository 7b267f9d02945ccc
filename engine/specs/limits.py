"""Limits that several doors share."""

from __future__ import annotations

import os

MAX_FILE_BYTES = 4 * 10**9


def max_file_bytes() -> int:
    """The size in bytes above which a data file is refused, at every door (`ATELIER_MAX_FILE_BYTES`)."""
    return int(os.environ.get("ATELIER_MAX_FILE_BYTES") or MAX_FILE_BYTES)
