"""Care of the store: a backup while it runs, a check of its integrity, and all rows of one job."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from storage import jobs
from storage.database import Store
from storage.errors import StoreError
from storage.tables import Base


def backup(store: Store, path: Path) -> None:
    """Writes a whole copy of the store beside `path` and renames it there.

    Raises:
        StoreError: the store is no SQLite file.
    """
    with closing(sqlite3.connect(f"file:{_file(store)}?mode=ro", uri=True)) as source:
        unfinished = path.with_name(f".{path.name}.part")
        with closing(sqlite3.connect(unfinished)) as copy:
            source.backup(copy)
        unfinished.replace(path)


def integrity(store: Store) -> list[str]:
    """Returns what is wrong with the store's file; nothing where it is good."""
    with closing(sqlite3.connect(f"file:{_file(store)}?mode=ro", uri=True)) as connection:
        found = [str(row[0]) for row in connection.execute("PRAGMA integrity_check")]
        broken = [f"foreign key: {row}" for row in connection.execute("PRAGMA foreign_key_check")]
    return [line for line in found if line != "ok"] + broken


def run_rows(session: Session, job_id: int) -> dict[str, Any]:
    """Returns all rows of a job by table. NotFound where there is none."""
    jobs.get(session, job_id)
    tables = {name: Base.metadata.tables[name] for name in ("attempt", "job_event", "metric", "checkpoint")}
    own = Base.metadata.tables["job"]
    found: dict[str, Any] = {"job": dict(session.execute(select(own).where(own.c.id == job_id)).one()._mapping)}
    for name, table in tables.items():
        rows = session.execute(select(table).where(table.c.job_id == job_id))
        found[name] = [dict(row._mapping) for row in rows]
    return found


def _file(store: Store) -> str:
    if store.url.get_backend_name() != "sqlite":
        raise StoreError("store_not_sqlite", {"backend": store.url.get_backend_name()})
    return str(store.url.database)
