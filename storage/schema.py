"""The schema: found, made in an empty database, migrated when asked. Alembic is imported only where it migrates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, inspect, text

from storage.errors import SchemaMismatch, StoreError
from storage.tables import Base

KNOWN = ("0001", "0002", "0003", "0004", "0005", "0006", "0007", "0008", "0009")
"""The schemas, oldest first. Checked against the migrations by a test, so that opening a store needs no Alembic."""
HEAD = KNOWN[-1]
MIGRATIONS = Path(__file__).parent / "migrations"
NO_SCHEMA = ""
_ONE_OPENER = text("SELECT pg_advisory_xact_lock(7205759403792793)")


def must_be_known(reader: Engine) -> None:
    """Refuses a database with a schema that this version does not know, before anything is written to it.

    Raises:
        SchemaMismatch: it is another program's, or a newer version's.
    """
    with reader.connect() as connection:
        strange = _strange_tables(connection)
        found = found_schema(connection)
    if found not in (NO_SCHEMA, *KNOWN):
        raise SchemaMismatch(found=found, expected=HEAD)
    if strange:
        names = ", ".join(strange[:5])
        message = f"This database belongs to another program: it has {names}. Name another one in ATELIER_STORE."
        raise StoreError("store_foreign", {"tables": names}, message)


def _strange_tables(connection: Connection) -> list[str]:
    """Tables of another program: any in a file, those that have a name of ours on a server, which may have others."""
    found = inspect(connection).get_table_names()
    if "alembic_version" in found:
        return []
    return sorted(found if connection.dialect.name == "sqlite" else set(found) & set(Base.metadata.tables))


def require(reader: Engine, writer: Engine, *, create: bool) -> None:
    """Checks that the database has the newest schema; makes it in an empty one, one opener at a time.

    Raises:
        SchemaMismatch: it has an older or an unknown schema.
        StoreError: it is empty and must not be made.
    """
    with reader.connect() as connection:
        found = found_schema(connection)
    if found == NO_SCHEMA and not create:
        url = writer.url.render_as_string(hide_password=True)
        raise StoreError("store_missing", {"store": writer.url.database or url}, f"There is no store at {url}.")
    if found == NO_SCHEMA:
        found = _advance(writer, only_from=NO_SCHEMA)
    if found != HEAD:
        raise SchemaMismatch(found=found, expected=HEAD, older=found in KNOWN)


def upgrade(writer: Engine) -> str:
    """Migrates an older schema forward to the newest, all or nothing; returns the schema that was found."""
    with writer.connect() as connection:
        before = found_schema(connection)
    if before not in (NO_SCHEMA, *KNOWN):
        raise SchemaMismatch(found=before, expected=HEAD)
    _advance(writer, only_from=before)
    return before


def found_schema(connection: Connection) -> str:
    """The schema of this database, or an empty string where there is none yet."""
    if not inspect(connection).has_table("alembic_version"):
        return NO_SCHEMA
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar() or NO_SCHEMA


def _advance(writer: Engine, *, only_from: str) -> str:
    """Migrates in one transaction, unless another opener was first; returns the schema that is there then.

    SQLite: rows that other rows point to survive the making-anew of their table only while foreign keys are not
    enforced, which can be said outside a transaction alone. They are checked as a whole before the commit.
    """
    sqlite = writer.dialect.name == "sqlite"
    with writer.connect() as connection:
        _enforce_foreign_keys(connection, enforced=False)
        try:
            with connection.begin():
                if not sqlite:
                    connection.execute(_ONE_OPENER)
                found = found_schema(connection)
                if found != only_from or found == HEAD:
                    return found
                migrate(connection, HEAD)
                if sqlite:
                    _check_foreign_keys(connection)
        finally:
            _enforce_foreign_keys(connection, enforced=True)
    return HEAD


def _enforce_foreign_keys(connection: Connection, *, enforced: bool) -> None:
    driver: Any = connection.connection.driver_connection
    if connection.dialect.name == "sqlite":
        driver.execute(f"PRAGMA foreign_keys={'ON' if enforced else 'OFF'}")


def _check_foreign_keys(connection: Connection) -> None:
    broken = {row[0] for row in connection.execute(text("PRAGMA foreign_key_check"))}
    if broken:
        raise StoreError("store_broken", {"problem": f"foreign keys of {', '.join(sorted(broken))}"})


def migrate(connection: Connection, target: str) -> None:
    """Runs the migrations up to a schema on a connection, in the transaction that the caller opened."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, target)
