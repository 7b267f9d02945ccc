"""The file and the schema: a private file, the write-ahead log, and Alembic only when a migration is due."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, inspect, text
from sqlalchemy.engine import URL

from storage.errors import SchemaMismatch, StoreError

HEAD = "0002"
"""The newest schema. Checked against the migrations by a test, so that opening a store need not import Alembic."""
MIGRATIONS = Path(__file__).parent / "migrations"
NO_SCHEMA = ""


def prepare_file(url: URL) -> None:
    """Makes the database file readable by its owner alone, before SQLite writes a byte to it.

    A file that is there is not opened: closing any descriptor of a file drops all locks that this process has on it,
    also those of SQLite's connections, and another process may then take the log away under them
    (https://www.sqlite.org/howtocorrupt.html, 2.2).
    """
    if not url.database or url.database == ":memory:" or url.database.startswith("file:"):
        raise StoreError("store_not_a_file", {"url": str(url)}, f"The store must be a file, not {url}.")
    path = Path(url.database)
    if not path.parent.is_dir():
        raise StoreError("store_folder_missing", {"path": str(path.parent)}, f"There is no folder {path.parent}.")
    try:
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
        if path.stat().st_mode & 0o077:
            path.chmod(0o600)
    except OSError as error:
        raise StoreError("store_unreadable", {"url": str(url), "problem": str(error)}) from error


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


def bring_up_to_date(reader: Engine, writer: Engine) -> None:
    """Migrates forward to the newest schema, one opener at a time; a schema from the future is refused."""
    with reader.connect() as connection:
        if found_schema(connection) == HEAD:
            return
    with writer.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(7205759403792793)"))
        found = found_schema(connection)
        if found != HEAD:
            _migrate(connection, found)


def found_schema(connection: Connection) -> str:
    """The schema of this database, or an empty string where there is none yet."""
    if not inspect(connection).has_table("alembic_version"):
        return NO_SCHEMA
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar() or NO_SCHEMA


def _migrate(connection: Connection, found: str) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if found and found not in known:
        raise SchemaMismatch(found=found, expected=HEAD)
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
