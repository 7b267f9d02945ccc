"""What a child prints: carried into its log file by a thread, without secrets, and never more than a cap."""

from __future__ import annotations

import contextlib
import re
import threading
from pathlib import Path
from typing import IO

CAP_BYTES = 50 * 2**20
_SECRETS = re.compile(
    rb"hf_\w{8,}|sk-[\w-]{16,}|AKIA[0-9A-Z]{16}|(?i:authorization:\s*\S+(?:\s+\S+)?)|(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"
)


def redact(line: bytes) -> bytes:
    """Blot out what looks like a token, a key or a password."""
    return _SECRETS.sub(b"[redacted]", line)


def carry(pipe: IO[bytes], path: Path) -> threading.Thread:
    """Copy `pipe` to the end of `path` until it closes; past the cap it is read and dropped: no child blocks.

    Raises:
        OSError: the file cannot be opened.
        RuntimeError: no thread can be started.
    """
    out = path.open("ab", buffering=0)  # what a full disk did not take is not tried again at the end
    thread = threading.Thread(target=_copy, args=(pipe, out), name=f"log {path.name}", daemon=True)
    try:
        thread.start()
    except RuntimeError:
        out.close()
        raise
    return thread


def _copy(pipe: IO[bytes], out: IO[bytes]) -> None:
    with pipe, out:
        size = out.tell()
        while line := pipe.readline(65536):
            if size > CAP_BYTES:
                continue
            clean = redact(line)
            size += len(clean)
            with contextlib.suppress(OSError):  # a full disk: a child that prints must not fail over it
                out.write(clean if size <= CAP_BYTES else b"\n[log cut: 50 MB reached]\n")


def tail(path: Path, *, lines: int = 50) -> str:
    """The last lines of a log; empty if there is none."""
    try:
        with path.open("rb") as handle:
            handle.seek(0, 2)
            handle.seek(max(0, handle.tell() - 200 * lines))
            text = handle.read().decode("utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.splitlines()[-lines:])
