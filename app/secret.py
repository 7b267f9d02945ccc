"""Secrets that people give: each in a file of the home that only its owner can read, never in the store."""

from __future__ import annotations

import os
import re
from pathlib import Path

from engine.files import sync_file

PASSWORD_SETTING = "password_file"  # noqa: S105  the name of the setting that names the file
TOKEN = re.compile(r"[\x21-\x7e]{8,400}")


def write(path: Path, value: str) -> None:
    """Put a secret into a private file, whole or not at all."""
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "w") as file:
        file.write(value + "\n")
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    sync_file(path.parent)
