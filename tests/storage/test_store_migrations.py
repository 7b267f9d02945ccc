"""The migrated database is the one that the tables describe; an older one is migrated forward, all or nothing."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, text

from storage import schema
from storage.database import Store
from storage.tables import Base
from tests.postgres import Cluster
from tests.stores import POSTGRESQL, SQLITE

STATEMENTS = "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite%' AND tbl_name <> :own"


def _pieces(statement: str) -> list[str]:
    """The lines of a CREATE statement, without the order in which they stand."""
    whole = statement.rstrip().removesuffix(")")  # SQLite adds a new column to the end of the last line
    lines = re.split(r"\n|,\s*(?![^()]*\))", whole)
    return sorted(re.sub(r"\s+", " ", line).strip(" ,\"'") for line in lines if line.strip(" ,"))


def _schema(connection: Any) -> list[list[str]]:
    rows = connection.execute(text(STATEMENTS), {"own": "alembic_version"}).scalars()
    return sorted(_pieces(row) for row in rows)


def test_the_schemas_that_opening_knows_are_the_migrations() -> None:
    config = Config()
    config.set_main_option("script_location", str(schema.MIGRATIONS))
    scripts = ScriptDirectory.from_config(config)
    assert tuple(script.revision for script in scripts.walk_revisions())[::-1] == schema.KNOWN
    assert scripts.get_current_head() == schema.HEAD


def test_alembic_finds_nothing_to_change_in_a_migrated_database(store: Store) -> None:
    with store.read() as session:
        context = MigrationContext.configure(session.connection(), opts={"compare_server_default": True})
        assert compare_metadata(context, Base.metadata) == []


@SQLITE
def test_a_migrated_database_has_every_check_and_index_of_the_tables(store: Store, tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'plain.db'}")
    Base.metadata.create_all(engine)
    with engine.connect() as plain, store.read() as migrated:
        assert _schema(migrated.connection()) == _schema(plain)
    engine.dispose()


@POSTGRESQL
def test_a_migrated_server_has_every_check_key_and_index_of_the_tables(store: Store, postgres: Cluster) -> None:
    with postgres.empty_database() as url, store.read() as migrated:
        engine = create_engine(url)
        Base.metadata.create_all(engine)
        with engine.connect() as plain:
            assert _rules(migrated.connection()) == _rules(plain)
        engine.dispose()


def _rules(connection: Any) -> list[Any]:
    constraints = "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint"
    where = " WHERE connamespace = 'public'::regnamespace AND conrelid::regclass::text <> 'alembic_version'"
    indexes = "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'"
    own = " AND tablename <> 'alembic_version'"
    return [sorted(map(tuple, connection.execute(text(sql)))) for sql in (constraints + where, indexes + own)]
