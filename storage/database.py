"""From a URL to a store: engines, pragmas, transactions, and the schema brought up to date.

Writers begin with BEGIN IMMEDIATE, since SQLite's busy timeout does not cover a read that turns into a write.
Readers have their own engine and a plain BEGIN, so that no reader waits for a writer.
"""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DatabaseError
from sqlalchemy.orm import Session
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool

from storage.errors import StoreError
from storage.schema import bring_up_to_date, prepare_file, switch_to_wal

BUSY_TIMEOUT_S = 10
POOL = {"poolclass": QueuePool, "pool_size": 8, "max_overflow": 56}
"""Up to 64 threads of one process at once; connections stay open, since opening one costs six pragmas."""


class Store:
    """One process's way to the database. After a fork or a spawn, a process opens its own."""

    def __init__(self, url: URL) -> None:
        self.url = url
        self._writer = _engine(url, read_only=False)
        self._reader = _engine(url, read_only=True)
        self._wal = Path(f"{url.database}-wal") if url.get_backend_name() == "sqlite" else None
        self._wal_seen = 0

    @contextmanager
    def write(self) -> Iterator[Session]:
        """One transaction that holds the write lock: committed at the end, rolled back by an exception."""
        with Session(self._writer, expire_on_commit=False) as session, session.begin():
            session.connection()  # takes the lock now, not at the first statement
            yield session

    @contextmanager
    def read(self) -> Iterator[Session]:
        """One snapshot to read from; a write in it fails."""
        with Session(self._reader, expire_on_commit=False, autoflush=False) as session:
            yield session

    def checkpoint(self) -> bool:
        """Moves the write-ahead log into the database file when frames were added since the last call.

        Only the worker calls it: two connections that checkpoint at one instant can corrupt SQLite before 3.51.3.
        """
        changed = _changed_at(self._wal)
        if changed == self._wal_seen:
            return False
        connection = self._writer.raw_connection()
        try:
            connection.cursor().execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        finally:
            connection.close()
        self._wal_seen = changed
        return True

    def watch(self) -> Watch:
        """A cheap look at whether anything was written: for loops that poll many times a second."""
        return Watch(self._reader)

    def dispose(self) -> None:
        """Closes every connection."""
        self._reader.dispose()
        self._writer.dispose()


class Watch:
    """Tells whether any transaction was committed since the last look (measured: 7 us against 300 us for a read).

    It sees writes, not the passing of time: leases and delays still need a slow poll. One thread uses it.
    Where the database cannot tell (PostgreSQL), every look says yes.
    """

    def __init__(self, engine: Engine) -> None:
        self._connection = engine.raw_connection() if engine.dialect.name == "sqlite" else None
        self._seen: object = None

    def changed(self) -> bool:
        if self._connection is None:
            return True
        before = self._seen
        try:
            self._seen = self._connection.cursor().execute("PRAGMA data_version").fetchone()
        except sqlite3.Error:
            return True  # the read that this leads to says what is wrong
        return self._seen != before

    def close(self) -> None:
        """Gives the connection back."""
        if self._connection is not None:
            self._connection.close()


def open_store(url: str) -> Store:
    """Opens the store, makes it where there is none, and brings an older schema up to date."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        prepare_file(parsed)
    store = Store(parsed)
    try:
        if parsed.get_backend_name() == "sqlite":
            switch_to_wal(store._writer, patience_s=BUSY_TIMEOUT_S)
        bring_up_to_date(store._reader, store._writer)
    except (DatabaseError, sqlite3.DatabaseError) as error:
        store.dispose()
        problem = str(getattr(error, "orig", error))
        raise StoreError("store_unreadable", {"url": str(parsed), "problem": problem}) from error
    except BaseException:
        store.dispose()
        raise
    return store


def _engine(url: URL, *, read_only: bool) -> Engine:
    options: dict[str, Any] = {**POOL, "json_serializer": dump_json}
    if url.get_backend_name() != "sqlite":
        engine = create_engine(url, pool_pre_ping=True, **options)
        return engine.execution_options(postgresql_readonly=True) if read_only else engine
    arguments = {"check_same_thread": False, "timeout": BUSY_TIMEOUT_S}
    engine = create_engine(url, connect_args=arguments, **options)
    event.listen(engine, "connect", partial(_prepare_connection, read_only=read_only))
    event.listen(engine, "begin", _begin_read if read_only else _begin_write)
    return engine


def _prepare_connection(connection: Any, _entry: ConnectionPoolEntry, *, read_only: bool) -> None:
    connection.isolation_level = None
    pragmas = ["synchronous=FULL", "foreign_keys=ON", "wal_autocheckpoint=0"]
    for pragma in [*pragmas, "query_only=ON"] if read_only else pragmas:
        connection.execute(f"PRAGMA {pragma}")


def _begin_write(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _begin_read(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")


def _changed_at(wal: Path | None) -> int:
    try:
        return 0 if wal is None else wal.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def dump_json(value: Any) -> str:
    """JSON without NaN and infinity, which no reader outside Python takes: they become null."""
    try:
        return json.dumps(value, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(value), allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
