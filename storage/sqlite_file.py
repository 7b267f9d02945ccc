"""SQLite's file: private, on a disk of this machine, with the write-ahead log on, and the same one all the time."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sqlite3
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Engine
from sqlalchemy.engine import URL

from storage.errors import StoreError

NETWORK_SWITCH = "ATELIER_ALLOW_NETWORK_STORE"
"""Set to 1, a store on a network file system is opened all the same."""
NETWORK = {
    0x6969: "nfs",
    0x517B: "smb",
    0xFF534D42: "cifs",
    0xFE534D42: "smb2",
    0x00C36400: "ceph",
    0x5346414F: "afs",
    0x6B414653: "afs",
    0x0BD00BD0: "lustre",
    0x47504653: "gpfs",
    0x19830326: "beegfs",
    0x7461636F: "ocfs2",
    0x01161970: "gfs2",
}
"""File systems by the number that Linux gives them, on which SQLite's locks and shared memory cannot be trusted."""
Identity = tuple[int, int]


def path_of(url: URL) -> Path:
    """The file that a URL names.

    Raises:
        StoreError: it names none, so that processes could not share it.
    """
    if not url.database or url.database == ":memory:" or url.database.startswith("file:"):
        raise StoreError("store_not_a_file", {"url": str(url)}, f"The store must be a file, not {url}.")
    return Path(url.database)


def prepare(path: Path, *, create: bool, environment: Mapping[str, str] = os.environ) -> None:
    """Makes the database file readable by its owner alone, before SQLite writes a byte to it.

    A file that is there is not opened: closing any descriptor of a file drops all locks that this process has on it,
    also those of SQLite's connections, and another process may then take the log away under them
    (https://www.sqlite.org/howtocorrupt.html, 2.2).

    Raises:
        StoreError: its folder is missing or on a network, the file cannot be used, or it is missing and not made.
    """
    if not path.parent.is_dir():
        raise StoreError("store_folder_missing", {"path": str(path.parent)}, f"There is no folder {path.parent}.")
    kind = network_kind(path.parent)
    if kind is not None and environment.get(NETWORK_SWITCH) != "1":
        values = {"path": str(path), "kind": kind, "switch": f"{NETWORK_SWITCH}=1"}
        raise StoreError("store_on_network", values, f"The store {path} lies on a network file system ({kind}).")
    if not create and not path.exists():
        raise StoreError("store_missing", {"store": str(path)}, f"There is no store at {path}.")
    try:
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
        if path.stat().st_mode & 0o077:
            path.chmod(0o600)
    except OSError as error:
        raise StoreError("store_unreadable", {"url": str(path), "problem": str(error)}) from error


def network_kind(folder: Path) -> str | None:
    """The network file system that a folder lies on; None on a disk of this machine, or where nobody can tell."""
    if sys.platform != "linux":
        return None
    answer = ctypes.create_string_buffer(512)  # larger than the structure, whose first word is the kind
    if ctypes.CDLL(None, use_errno=True).statfs(os.fsencode(folder), answer) != 0:
        return None
    number = int.from_bytes(answer.raw[: ctypes.sizeof(ctypes.c_long)], sys.byteorder) & 0xFFFFFFFF
    return NETWORK.get(number)


def connect(path: Path, *, timeout_s: float) -> sqlite3.Connection:
    """A connection to a file that must be there: SQLite by itself would make a missing one anew."""
    address = f"file:{quote(str(path))}?mode=rw"
    return sqlite3.connect(address, uri=True, check_same_thread=False, timeout=timeout_s)


def identity(path: Path) -> Identity | None:
    """What tells this very file from another one of its name; None where there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def switch_to_wal(engine: Engine, *, patience_s: float) -> None:
    """Turns the write-ahead log on. SQLite's busy timeout does not cover this switch, so it is tried again here."""
    connection = engine.raw_connection()
    deadline = time.monotonic() + patience_s
    try:
        cursor = connection.cursor()
        while not _is_wal(cursor):
            if time.monotonic() > deadline:
                raise StoreError("store_busy", {"seconds": patience_s})
            time.sleep(0.01)
    finally:
        connection.close()


def _is_wal(cursor: Any) -> bool:
    try:
        if cursor.execute("PRAGMA journal_mode").fetchone() == ("wal",):
            return True
        return bool(cursor.execute("PRAGMA journal_mode=WAL").fetchone() == ("wal",))
    except sqlite3.OperationalError as error:
        if "locked" not in str(error):
            raise
        return False
