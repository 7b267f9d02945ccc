"""The migrated database is the one that the tables describe; an older one is migrated forward, all or nothing."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Select, create_engine, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable

from storage import (
    answers,
    attempts,
    checkpoints,
    claims,
    datasets,
    drafts,
    job_values,
    jobs,
    message_values,
    metrics,
    models,
    requests,
    schema,
    settings,
    wishes,
)
from storage.database import Store
from storage.tables import Base
from tests.postgres import Cluster
from tests.stores import POSTGRESQL, SQLITE

DIALECT = postgresql.dialect()
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


def test_the_tables_can_be_written_for_postgresql() -> None:
    for table in Base.metadata.sorted_tables:
        assert str(CreateTable(table).compile(dialect=DIALECT)).strip().startswith("CREATE TABLE")
        for index in table.indexes:
            CreateIndex(index).compile(dialect=DIALECT)


def test_the_prepared_reads_can_be_written_for_postgresql() -> None:
    modules = [answers, attempts, checkpoints, datasets, job_values, message_values, metrics, models, requests, wishes]
    found = [value for module in modules for value in vars(module).values() if isinstance(value, Select)]
    assert len(found) > 10
    for statement in found:
        statement.compile(dialect=DIALECT)


class _WrittenError(Exception):
    """Ends a storage function after its first statement."""


class _PostgresqlSession:
    """Takes one statement, as PostgreSQL would read it."""

    def __init__(self) -> None:
        self.sql = ""

    def get_bind(self) -> Any:
        return self

    @property
    def dialect(self) -> Any:
        return DIALECT

    def execute(self, statement: Any, *_parameters: Any) -> Any:
        self.sql = str(statement.compile(dialect=DIALECT))
        raise _WrittenError


CLAIM = claims.Claim(1, 1, 1)
VERSION = datasets.NewVersion("n", "s", "/p", "conversation", "messages", 1, 1, 1, "f")
WRITES: list[tuple[Callable[..., Any], str]] = [
    (lambda s: drafts.put(s, "train", {}), "ON CONFLICT (page) DO UPDATE"),
    (lambda s: settings.put(s, "language", "en"), "ON CONFLICT (key) DO UPDATE"),
    (lambda s: models.add(s, models.NewModel("m", "/m", "folder", 1)), "ON CONFLICT (name) DO UPDATE"),
    (lambda s: datasets.add_version(s, VERSION), "ON CONFLICT DO NOTHING"),
    (lambda s: jobs.submit(s, kind="k", name="n", spec={}, lane="gpu"), "ON CONFLICT (idempotency_key) DO NOTHING"),
    (lambda s: jobs.claim(s, jobs.Holder("o", "h", "b"), lanes=["gpu"], lease_s=60), "FOR UPDATE SKIP LOCKED"),
    (lambda s: requests.take(s), "FOR UPDATE SKIP LOCKED"),
    (lambda s: answers.claim(s, base_key="k", process_id=1), "FOR UPDATE SKIP LOCKED"),
    (lambda s: jobs.cancel(s, 1), "FOR UPDATE"),
    (lambda s: jobs.renew(s, CLAIM, lease_s=60), "clock_timestamp()"),
    (lambda s: jobs.progress(s, CLAIM, step=3), "IS DISTINCT FROM"),
    (lambda s: models.remove(s, "m"), "SELECT"),
]


@pytest.mark.parametrize(("function", "words"), WRITES)
def test_a_write_can_be_written_for_postgresql(function: Callable[..., Any], words: str) -> None:
    session = _PostgresqlSession()
    with pytest.raises(_WrittenError):
        function(session)
    assert words in session.sql
