"""What a child prints: carried into its log file by a thread, without secrets; of very much, the end is kept."""

from __future__ import annotations

import contextlib
import re
import threading
from pathlib import Path
from typing import IO

from engine.specs import printed

CAP_BYTES = 50 * 2**20
"""Of a log and the half before it, together."""
_SECRETS = re.compile(
    rb"hf_\w{8,}|sk-[\w-]{16,}|AKIA[0-9A-Z]{16}|(?i:authorization:\s*\S+(?:\s+\S+)?)|(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"
)


def redact(line: bytes) -> bytes:
    """Blot out what looks like a token, a key or a password."""
    return _SECRETS.sub(b"[redacted]", line)


def carry(pipe: IO[bytes], path: Path) -> threading.Thread:
    """Copy `pipe` to the end of `path` until it closes. What does not fit is dropped: no child blocks.

    Raises:
        OSError: the file cannot be opened.
        RuntimeError: no thread can be started.
    """
    log = Log(path)
    thread = threading.Thread(target=_copy, args=(pipe, log), name=f"log {path.name}", daemon=True)
    try:
        thread.start()
    except RuntimeError:
        log.close()
        raise
    return thread


def _copy(pipe: IO[bytes], log: Log) -> None:
    with pipe, contextlib.closing(log):
        while line := pipe.readline(65536):
            with contextlib.suppress(OSError):  # a full disk: a child that prints must not fail over it
                log.write(redact(line))


class Log:
    """A file that is put aside when it has half the cap, and begun anew: the last half at least is always kept.

    Several children may write to one, each through its own.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = _opened(path)

    def write(self, line: bytes) -> None:
        if self._file.tell() + len(line) > CAP_BYTES // 2:
            self._turn()
        self._file.write(line)

    def close(self) -> None:
        self._file.close()

    def _turn(self) -> None:
        with _turning:
            if _size(self._path) >= self._file.tell():  # else another has turned it
                self._path.replace(printed.before(self._path))
            fresh = _opened(self._path)
        self._file.close()
        self._file = fresh


_turning = threading.Lock()


def _opened(path: Path) -> IO[bytes]:
    return path.open("ab", buffering=0)  # what a full disk did not take is not tried again at the end


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def tail(path: Path, *, lines: int = 50) -> str:
    """The last lines of a log; empty if there is none."""
    return "\n".join(printed.end(path, 200 * lines).splitlines()[-lines:])
