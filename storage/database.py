"""From a URL to a store: engines, pragmas, transactions, and a schema that is the newest.

SQLite: writers begin with BEGIN IMMEDIATE, since the busy timeout does not cover a read that turns into a write.
PostgreSQL: writers are READ COMMITTED and lock the rows that they decide on.
Readers have their own engine and one snapshot, so that no reader waits for a writer.
"""

from __future__ import annotations

import contextlib
import logging
import math
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from json import dumps
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, DBAPIError
from sqlalchemy.orm import Session
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool

from storage import schema, sqlite_file
from storage.errors import StoreError, StoreGone
from storage.plain import NOT_PLAIN_JSON, plain

log = logging.getLogger(__name__)

KINDS = ("sqlite", "sqlite+pysqlite", "postgresql+psycopg")
BUSY_TIMEOUT_S = 10
IDLE_WRITER_S = 5
"""PostgreSQL ends a transaction that a frozen or vanished writer leaves open, sooner than others tire of its locks."""
SQLITE_POOL: dict[str, Any] = {"poolclass": QueuePool, "pool_size": 8, "max_overflow": 56}
"""Up to 64 threads of one process at once; connections stay open, since opening one costs six pragmas."""
POSTGRESQL_POOL: dict[str, Any] = {"poolclass": QueuePool, "pool_size": 4, "max_overflow": 16, "pool_pre_ping": True}
"""A server takes a hundred connections by default, and every process has two pools."""
LOOKS = {"sqlite": "PRAGMA data_version", "postgresql": "SELECT pg_current_snapshot()::text"}
"""What changes at the instant in which something committed can be seen, not before."""
LIFE_SIGNS = {"connect_timeout": 10, "keepalives_idle": 20, "keepalives_interval": 5, "keepalives_count": 4}
"""Seconds after which a server that vanished without a word counts as lost."""


class Store:
    """One process's way to the database. After a fork or a spawn, a process opens its own."""

    def __init__(self, url: URL) -> None:
        self.url = url
        self.file = Path(url.database) if url.get_backend_name() == "sqlite" and url.database else None
        """SQLite's file; None on a server."""
        self._writer = _engine(url, read_only=False)
        self._reader = _engine(url, read_only=True)
        self._wal = Path(f"{self.file}-wal") if self.file else None
        self._wal_seen = 0
        self._identity: sqlite_file.Identity | None = None

    @contextmanager
    def write(self) -> Iterator[Session]:
        """One transaction: committed at the end, rolled back by an exception. On SQLite it is the only writer.

        Raises:
            StoreGone: the file was deleted or replaced since it was opened.
        """
        self._must_be_the_same()
        with Session(self._writer, expire_on_commit=False) as session, session.begin():
            session.connection()  # takes SQLite's write lock now, not at the first statement
            yield session

    @contextmanager
    def read(self) -> Iterator[Session]:
        """One snapshot to read from; a write in it fails.

        Raises:
            StoreGone: the file was deleted or replaced since it was opened.
        """
        self._must_be_the_same()
        with Session(self._reader, expire_on_commit=False, autoflush=False) as session:
            yield session

    def checkpoint(self) -> bool:
        """Moves the write-ahead log into the database file when frames were added since the last move.

        A disk without room for it is no error: all that was committed stays in the log, and the next call tries again.
        Only the worker calls it: two connections that checkpoint at one instant can corrupt SQLite before 3.51.3.
        A server sees to its log itself.
        """
        changed = _changed_at(self._wal)
        if changed == self._wal_seen:
            return False
        try:
            with contextlib.closing(self._writer.raw_connection()) as connection:
                connection.cursor().execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        except sqlite3.Error as error:
            log.warning("the log was not moved: %s", error)
            return False
        self._wal_seen = changed
        return True

    def watch(self) -> Watch:
        """A cheap look at whether anything was written: for loops that poll many times a second."""
        return Watch(self._reader, self.is_the_same)

    def is_the_same(self) -> bool:
        """Whether the file is the one that was opened; a server always is."""
        return self.file is None or self._identity is None or sqlite_file.identity(self.file) == self._identity

    def remember_file(self) -> None:
        """From here on, another file in the place of this one is noticed."""
        self._identity = None if self.file is None else sqlite_file.identity(self.file)

    def dispose(self) -> None:
        """Closes every connection."""
        self._reader.dispose()
        self._writer.dispose()

    def _must_be_the_same(self) -> None:
        if not self.is_the_same():
            raise StoreGone(self.file)


class Watch:
    """Tells whether any transaction was committed since the last look (SQLite: 7 us against 300 us for a read).

    It sees writes, not the passing of time: leases and delays still need a slow poll. One thread at a time uses it.
    Where it cannot tell, since the server was lost or the file replaced, it says yes: the read then finds out.
    """

    def __init__(self, engine: Engine, is_the_same: Any) -> None:
        self._engine, self._is_the_same = engine, is_the_same
        self._look = LOOKS[engine.dialect.name]
        self._connection: Any = None
        self._seen: object = None

    def changed(self) -> bool:
        if not self._is_the_same():
            return True
        before = self._seen
        try:
            if self._connection is None:
                self._connection = self._opened()
            self._seen = tuple(self._connection.cursor().execute(self._look).fetchone())
        except Exception as error:
            if not isinstance(error, DBAPIError | self._engine.dialect.loaded_dbapi.Error):
                raise
            self.close()
            return True
        return self._seen != before

    def close(self) -> None:
        """Gives the connection back."""
        if self._connection is not None:
            with contextlib.suppress(self._engine.dialect.loaded_dbapi.Error):
                self._connection.close()
            self._connection = None

    def _opened(self) -> Any:
        connection = self._engine.raw_connection()
        if self._engine.dialect.name == "postgresql":  # a transaction would look at one snapshot for ever
            driver: Any = connection.driver_connection
            connection.detach()
            driver.autocommit = True
        return connection


def open_store(url: str, *, create: bool = True) -> Store:
    """Opens the store; makes it where there is none, unless `create` is false.

    Raises:
        SchemaMismatch: it was written by an older or a newer version.
        StoreError: it cannot be used, or there is none and it is not to be made.
    """
    store = store_at(url, create=create)
    try:
        schema.must_be_known(store._reader)
        if store.file is not None:
            sqlite_file.switch_to_wal(store._writer, patience_s=BUSY_TIMEOUT_S)
        schema.require(store._reader, store._writer, create=create)
        store.remember_file()
    except (DatabaseError, sqlite3.DatabaseError) as error:
        store.dispose()
        raise _unusable(store.url, error) from error
    except BaseException:
        store.dispose()
        raise
    return store


def upgrade_store(url: str) -> str:
    """Migrates the store forward to the newest schema, all or nothing; returns the schema that it had.

    Raises:
        SchemaMismatch: it has a schema that this version does not know.
        StoreError: it cannot be used, or there is none.
    """
    store = store_at(url, create=False)
    try:
        return schema.upgrade(store._writer)
    except (DatabaseError, sqlite3.DatabaseError) as error:
        raise _unusable(store.url, error) from error
    finally:
        store.dispose()


def store_at(url: str, *, create: bool) -> Store:
    """The store of a URL, whatever schema it has; only for those who look after it."""
    try:
        parsed = make_url(url)
        if parsed.drivername in ("postgresql", "postgres"):
            parsed = parsed.set(drivername="postgresql+psycopg")
    except ArgumentError as error:
        raise StoreError("store_kind_unknown", {"given": url.split(":", 1)[0]}) from error
    if parsed.drivername not in KINDS:
        raise StoreError("store_kind_unknown", {"given": parsed.drivername})
    if parsed.get_backend_name() == "sqlite":
        sqlite_file.prepare(sqlite_file.path_of(parsed), create=create)
    return Store(parsed)


def _unusable(url: URL, error: Exception) -> StoreError:
    problem = str(getattr(error, "orig", error)).strip()
    code = "store_unreadable" if url.get_backend_name() == "sqlite" else "store_unreachable"
    return StoreError(code, {"url": url.render_as_string(hide_password=True), "problem": problem})


def _engine(url: URL, *, read_only: bool) -> Engine:
    backend = {"sqlite": _sqlite_engine, "postgresql": _postgresql_engine}[url.get_backend_name()]
    return backend(url, read_only=read_only)


def _sqlite_engine(url: URL, *, read_only: bool) -> Engine:
    creator = partial(sqlite_file.connect, sqlite_file.path_of(url), timeout_s=BUSY_TIMEOUT_S)
    engine = create_engine(url, creator=creator, json_serializer=dump_json, **SQLITE_POOL)
    event.listen(engine, "connect", partial(_prepare_sqlite, read_only=read_only))
    event.listen(engine, "begin", _begin_read if read_only else _begin_write)
    return engine


def _postgresql_engine(url: URL, *, read_only: bool) -> Engine:
    level: Any = "REPEATABLE READ" if read_only else "READ COMMITTED"
    arguments = {name: value for name, value in LIFE_SIGNS.items() if name not in url.query}
    engine = create_engine(
        url, isolation_level=level, connect_args=arguments, json_serializer=dump_json, **POSTGRESQL_POOL
    )
    event.listen(engine, "connect", partial(_prepare_postgresql, read_only=read_only))
    return engine


def _prepare_sqlite(connection: Any, _entry: ConnectionPoolEntry, *, read_only: bool) -> None:
    connection.isolation_level = None
    pragmas = ["synchronous=FULL", "foreign_keys=ON", "wal_autocheckpoint=0"]
    for pragma in [*pragmas, "query_only=ON"] if read_only else pragmas:
        connection.execute(f"PRAGMA {pragma}")


def _prepare_postgresql(connection: Any, _entry: ConnectionPoolEntry, *, read_only: bool) -> None:
    connection.execute(f"SET lock_timeout = '{BUSY_TIMEOUT_S}s'")
    connection.execute(f"SET idle_in_transaction_session_timeout = '{0 if read_only else IDLE_WRITER_S}s'")
    connection.commit()
    connection.read_only = read_only


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
    """JSON that every reader takes: NaN and infinity become null, NUL and halves of characters a replacement sign."""
    try:
        text = dumps(value, allow_nan=False)
    except ValueError:
        text = dumps(_finite(value), allow_nan=False)
    return dumps(_finite(value), allow_nan=False) if NOT_PLAIN_JSON.search(text) else text


def _finite(value: Any) -> Any:
    if isinstance(value, str):
        return plain(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {_finite(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
