"""Care of the store: back it up while it runs, put a backup in its place, check it, hand out the rows of one job."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import Select, select, text
from sqlalchemy.exc import DatabaseError
from sqlalchemy.orm import Session

from storage import checkpoints, datasets, jobs, models, sqlite_file
from storage.checkpoints import SELECT_CHECKPOINT, Checkpoint
from storage.database import Store, store_at, upgrade_store
from storage.errors import StoreError
from storage.job_values import attempt, event_table, job
from storage.metrics import metric
from storage.rows import to_values
from storage.schema import HEAD, KNOWN, NO_SCHEMA

PAGES_A_STEP = 2000
MANIFEST = "manifest.json"
BUSY_S = 10.0


def backup(store: Store, path: Path) -> int:
    """Writes a whole, checked copy of the store to a new file while it is in use; returns its bytes.

    Raises:
        StoreError: the store is no SQLite file, the file is there already, or the copy cannot be written.
    """
    _must_be_new(path)
    if store.file is None:
        raise StoreError("store_backup_postgresql", {"command": dump_command(store, path)})
    try:
        with _written(path) as unfinished, contextlib.closing(_opened(store.file)) as source:
            _copy(source, unfinished)
    except sqlite3.DatabaseError as error:
        raise StoreError("store_broken", {"problem": str(error)}) from error
    return path.stat().st_size


def dump_command(store: Store, path: Path) -> str:
    """The command that backs a PostgreSQL store up; the password stays out of it."""
    url = store.url.set(drivername="postgresql", password=None).render_as_string()
    return f"pg_dump --format=custom --file={path} --dbname='{url}'"


def restore(database: Path, path: Path) -> Path | None:
    """Puts a backup in the place of the store, which nobody may have open; returns where the present one is kept.

    Raises:
        StoreError: the backup is no whole store, or has a schema that this version does not know.
    """
    if not path.is_file():
        raise StoreError("store_backup_missing", {"path": str(path)})
    sqlite_file.prepare(database, create=True)
    unfinished = database.with_name(f".{database.name}.restored")
    unfinished.unlink(missing_ok=True)
    try:
        with contextlib.closing(_opened(path)) as source:
            _must_be_a_store(source, path)
            _copy(source, unfinished)
    except sqlite3.DatabaseError as error:
        unfinished.unlink(missing_ok=True)
        raise StoreError("store_backup_broken", {"path": str(path), "problem": str(error)}) from error
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    kept = _set_aside(database)
    unfinished.replace(database)
    _sync(database.parent)
    return kept


def upgrade(url: str) -> tuple[str, str, Path | None]:
    """Backs the store up (SQLite) and migrates it forward; returns the schemas before and after, and the backup.

    Raises:
        SchemaMismatch: it has a schema that this version does not know.
        StoreError: it cannot be used.
    """
    store, saved = store_at(url, create=False), None
    try:
        if store.file is not None:
            found = _schema_of(store.file)
            if found in KNOWN and found != HEAD:
                saved = _free_name(store.file, f"before-{HEAD}")
                backup(store, saved)
    except sqlite3.DatabaseError as error:
        raise StoreError("store_unreadable", {"url": str(store.file), "problem": str(error)}) from error
    finally:
        store.dispose()
    return upgrade_store(url), HEAD, saved


def integrity(store: Store) -> list[str]:
    """What is wrong in the database itself, and between its rows and the files that they name.

    Each line is technical: where, and what was found there. There is none where all is well.
    """
    found: list[str] = []
    try:
        with store.read() as session:
            found += _CHECKS[store.url.get_backend_name()](session)
            kept = to_values(Checkpoint, session.execute(SELECT_CHECKPOINT.order_by(checkpoints.checkpoint.c.id)))
            files = [(f"dataset {one.name}@{one.version}", Path(one.path)) for one in _all_versions(session)]
            files += [(f"model {one.name}", Path(one.path)) for one in models.listing(session)]
    except DatabaseError as error:  # so damaged that it cannot be read to its end
        return [*found, str(error.orig).strip()]
    for row in kept:
        found += [f"checkpoint {row.job_id}@{row.step}: {fault}" for fault in _checkpoint_faults(row)]
    return [*found, *(f"{name}: {path} is missing" for name, path in files if not path.exists())]


def run_rows(session: Session, job_id: int) -> dict[str, Any]:
    """All rows of a job, as JSON takes them; NotFound where there is none."""
    jobs.get(session, job_id)

    def rows(statement: Select[Any]) -> list[dict[str, Any]]:
        return [dict(row._mapping) for row in session.execute(statement)]

    kept = checkpoints.checkpoint
    return {
        "schema": HEAD,
        "job": rows(select(job).where(job.c.id == job_id))[0],
        "attempts": rows(select(attempt).where(attempt.c.job_id == job_id).order_by(attempt.c.token)),
        "events": rows(select(event_table).where(event_table.c.job_id == job_id).order_by(event_table.c.id)),
        "checkpoints": rows(select(kept).where(kept.c.job_id == job_id).order_by(kept.c.step)),
        "metrics": rows(select(metric).where(metric.c.job_id == job_id).order_by(metric.c.name, metric.c.step)),
    }


def write_rows(session: Session, job_id: int, path: Path) -> int:
    """Writes all rows of a job to a new JSON file; returns its bytes."""
    _must_be_new(path)
    found = run_rows(session, job_id)
    with _written(path) as unfinished, unfinished.open("w", encoding="utf-8") as file:
        json.dump(found, file, ensure_ascii=False, allow_nan=False, indent=1)
        file.write("\n")
    return path.stat().st_size


def _must_be_new(path: Path) -> None:
    if not path.parent.is_dir():
        raise StoreError("store_folder_missing", {"path": str(path.parent)})
    if path.exists():
        raise StoreError("store_file_there", {"path": str(path)})


@contextlib.contextmanager
def _written(path: Path) -> Iterator[Path]:
    """A private file beside `path` to be filled, which takes its place when it is whole and on the disk."""
    unfinished = path.with_name(f".{path.name}.part")
    try:
        unfinished.unlink(missing_ok=True)
        os.close(os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        yield unfinished
        _sync(unfinished)
        unfinished.replace(path)
        _sync(path.parent)
    except (OSError, sqlite3.OperationalError) as error:
        values = {"path": str(path), "problem": str(error)}
        full = shutil.disk_usage(path.parent).free < 2**20 or "full" in str(error)
        raise StoreError("store_no_room" if full else "store_not_written", values) from error
    finally:
        unfinished.unlink(missing_ok=True)


def _opened(path: Path) -> sqlite3.Connection:
    return sqlite_file.connect(path, timeout_s=BUSY_S)


def _copy(source: sqlite3.Connection, target: Path) -> None:
    """Copies one snapshot page by page, in steps: writers go on meanwhile. The copy is one file, whole or refused."""
    source.isolation_level = None
    source.execute("BEGIN")
    source.execute("SELECT count(*) FROM sqlite_master").fetchone()  # from here on the source is one snapshot
    with contextlib.closing(sqlite3.connect(target, isolation_level=None)) as copy:
        source.backup(copy, pages=PAGES_A_STEP, sleep=0)
        copy.execute("PRAGMA journal_mode=DELETE")
        faults = [row[0] for row in copy.execute("PRAGMA integrity_check") if row[0] != "ok"]
    source.execute("ROLLBACK")
    target.chmod(0o600)
    if faults:
        raise sqlite3.DatabaseError(faults[0])
    _sync(target)


def _must_be_a_store(source: sqlite3.Connection, path: Path) -> None:
    found = _schema_in(source)
    if found not in KNOWN:
        raise StoreError("store_backup_unknown", {"path": str(path), "found": found or "-", "expected": HEAD})


def _schema_of(path: Path) -> str:
    with contextlib.closing(_opened(path)) as connection:
        return _schema_in(connection)


def _schema_in(connection: sqlite3.Connection) -> str:
    known = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone()
    row = connection.execute("SELECT version_num FROM alembic_version").fetchone() if known else None
    return row[0] if row else NO_SCHEMA


def _set_aside(database: Path) -> Path | None:
    """Keeps the present store under another name, its log moved into it where it can be read at all."""
    if database.stat().st_size == 0:  # made just now
        return None
    with contextlib.suppress(sqlite3.DatabaseError), contextlib.closing(_opened(database)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    kept = _free_name(database, "replaced")
    os.link(database, kept)  # both names until the backup takes the first one: never is there no store
    for tail in ("-wal", "-shm"):
        beside = Path(f"{database}{tail}")
        if beside.exists():
            beside.replace(f"{kept}{tail}")
    return kept


def _free_name(database: Path, word: str) -> Path:
    number = 1
    while (path := database.with_name(f"{database.stem}-{word}-{number}{database.suffix}")).exists():
        number += 1
    return path


def _sqlite_faults(session: Session) -> Iterator[str]:
    yield from (row[0] for row in session.execute(text("PRAGMA integrity_check")) if row[0] != "ok")
    for table, row_id, parent, _ in session.execute(text("PRAGMA foreign_key_check")):
        yield f"{table} row {row_id}: its row in {parent} is missing"


def _postgresql_faults(session: Session) -> Iterator[str]:
    """What a server that checks its own pages can be asked: its checksum failures, and rules that are not in force."""
    failures = text("SELECT COALESCE(checksum_failures, 0) FROM pg_stat_database WHERE datname = current_database()")
    if number := session.execute(failures).scalar():
        yield f"{number} pages with a wrong checksum"
    for (name,) in session.execute(text("SELECT conname FROM pg_constraint WHERE NOT convalidated")):
        yield f"constraint {name} is not validated"
    for (name,) in session.execute(text("SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid")):
        yield f"index {name} is not valid"


_CHECKS = {"sqlite": _sqlite_faults, "postgresql": _postgresql_faults}


def _all_versions(session: Session) -> list[datasets.Version]:
    return [one for latest in datasets.listing(session) for one in datasets.versions(session, latest.name)]


def _checkpoint_faults(row: Checkpoint) -> Iterator[str]:
    """How a checkpoint's folder differs from its manifest, and the manifest from the row."""
    folder = Path(row.path)
    try:
        manifest = (folder / MANIFEST).read_bytes()
        files = {
            str(name): (int(one["bytes"]), str(one["sha256"])) for name, one in json.loads(manifest)["files"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        yield f"{MANIFEST} cannot be read ({type(error).__name__})"
        return
    if hashlib.sha256(manifest).hexdigest() != row.manifest_sha:
        yield f"{MANIFEST} is another one than the row names"
    for name, (size, digest) in files.items():
        path = folder / name
        if not path.is_file():
            yield f"{name} is missing"
        elif path.stat().st_size != size or _sha256(path) != digest:
            yield f"{name} is damaged"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
