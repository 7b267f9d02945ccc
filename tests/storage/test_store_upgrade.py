"""A store of an earlier version: refused with the command to run, migrated forward whole, or left as it was."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, text

from storage import jobs, maintenance, metrics, schema
from storage.database import open_store, store_at, upgrade_store
from storage.errors import SchemaMismatch, StoreError
from storage.states import State

ROOT = Path(__file__).parents[2]
JOB = """INSERT INTO job (kind, name, lane, spec, spec_version, state, priority, held, attempt, max_attempts, granted,
 deaths, token, "values", metric_version, metric_generation, created_at, started_at, finished_at)
 VALUES ('train', :name, 'gpu', '{"seed": 7}', 1, :state, 0, :no, 1, 3, 0, 0, 1, '{}', 2, 0, 1.5, 2.5, :end)"""
ROWS = [
    (JOB, {"name": "tone", "state": "succeeded", "end": 9.5, "no": False}),
    (JOB, {"name": "next", "state": "queued", "end": None, "no": False}),
    ("INSERT INTO attempt (job_id, token, attempt, host, started_at, ended_at, outcome) "
     "VALUES (1, 1, 1, 'h', 2.5, 9.5, 'succeeded')", {}),
    ("INSERT INTO job_event (job_id, token, at, kind, data) VALUES (1, 0, 1.5, 'submitted', '{\"state\": \"queued\"}')", {}),
    ("INSERT INTO metric (job_id, name, step, token, value, at, version) VALUES (1, 'loss', 1, 1, 0.5, 3.0, 1)", {}),
    ("INSERT INTO metric (job_id, name, step, token, value, at, version) VALUES (1, 'loss', 2, 1, 0.25, 4.0, 2)", {}),
    ("INSERT INTO request (kind, payload, state, problems, created_at) VALUES ('plan', '{}', 'asked', '[]', 1.0)", {}),
]  # fmt: skip
CRASH = """
import os, sys
from alembic import op
from storage.database import upgrade_store
real, calls = op.add_column, []
def add_column(*arguments, **options):
    real(*arguments, **options)
    calls.append(1)
    if len(calls) == int(sys.argv[2]):
        os._exit(9)
op.add_column = add_column
upgrade_store(sys.argv[1])
"""


@pytest.fixture
def old_url(empty_url: str) -> str:
    """A store of the first version, with rows."""
    store = store_at(empty_url, create=True)
    with store._writer.begin() as connection:
        schema.migrate(connection, "0001")
        for statement, values in ROWS:
            connection.execute(text(statement), values)
    store.dispose()
    return empty_url


def look(url: str) -> dict[str, Any]:
    """Everything that an old store holds: its schema, and each of its rows."""
    store = store_at(url, create=False)
    with store._reader.connect() as connection:
        found = {table: _rows(connection, table) for table in ("job", "attempt", "job_event", "metric", "request")}
        found["schema"] = schema.found_schema(connection)
    store.dispose()
    return found


def _rows(connection: Connection, table: str) -> list[dict[str, Any]]:
    rows = [dict(row._mapping) for row in connection.execute(text(f"SELECT * FROM {table}"))]
    return sorted(rows, key=repr)


def test_an_older_schema_is_refused_with_the_command_that_mends_it(old_url: str) -> None:
    before = look(old_url)
    with pytest.raises(SchemaMismatch, match="atelier store upgrade") as caught:
        open_store(old_url)
    assert (caught.value.code, caught.value.older) == ("store_schema_old", True)
    values = {"found": "0001", "expected": schema.HEAD, "command": "atelier store upgrade"}
    assert caught.value.values == values
    assert look(old_url) == before


def test_an_older_store_with_rows_is_brought_forward_and_loses_none(old_url: str) -> None:
    before = look(old_url)
    assert upgrade_store(old_url) == "0001"
    after = look(old_url)
    assert after["schema"] == schema.HEAD
    for table, rows in before.items():
        if table != "schema":
            assert [{**new, **old} for old, new in zip(rows, after[table], strict=True)] == after[table]
    store = open_store(old_url)
    with store.write() as session:
        assert jobs.get(session, 1).notified_at == 9.5
        assert [(one.id, one.state) for one in jobs.queue(session)] == [(2, State.QUEUED)]
        assert metrics.series(session, 1) == {"loss": [(1, 0.5), (2, 0.25)]}
        assert jobs.submit(session, kind="train", name="new", spec={}, lane="gpu").id > 2
    store.dispose()
    assert upgrade_store(old_url) == schema.HEAD


def test_a_store_from_the_future_is_not_upgraded(old_url: str) -> None:
    store = store_at(old_url, create=False)
    with store._writer.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    store.dispose()
    with pytest.raises(SchemaMismatch, match="Install the newer version"):
        upgrade_store(old_url)


def test_there_is_nothing_to_upgrade_where_there_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError) as caught:
        upgrade_store(f"sqlite:///{tmp_path / 'store.db'}")
    assert caught.value.code == "store_missing"
    assert not (tmp_path / "store.db").exists()


@pytest.mark.parametrize("after", [1, 3, 4])
def test_a_kill_in_the_middle_of_a_migration_leaves_the_old_store_whole(old_url: str, after: int) -> None:
    before = look(old_url)
    killed = subprocess.run([sys.executable, "-c", CRASH, old_url, str(after)], cwd=ROOT, check=False)
    assert killed.returncode == 9
    assert look(old_url) == before
    assert upgrade_store(old_url) == "0001"


def test_an_error_in_the_middle_of_a_migration_leaves_the_old_store_whole(
    old_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from alembic import command

    before, real = look(old_url), command.upgrade

    def fails(*arguments: Any) -> None:
        real(*arguments)
        raise OSError("the disk is gone")

    with monkeypatch.context() as patched, pytest.raises(OSError, match="disk is gone"):
        patched.setattr(command, "upgrade", fails)
        upgrade_store(old_url)
    assert look(old_url) == before
    assert upgrade_store(old_url) == "0001"


def test_rows_that_point_nowhere_after_a_migration_stop_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    store = store_at(url, create=True)
    with store._writer.begin() as connection:
        schema.migrate(connection, "0001")
    store.dispose()
    real = schema.migrate

    def loses_a_job(connection: Connection, target: str) -> None:
        real(connection, target)
        connection.execute(text("INSERT INTO job_event (job_id, token, at, kind, data) VALUES (5, 0, 1, 'x', '{}')"))

    monkeypatch.setattr(schema, "migrate", loses_a_job)
    with pytest.raises(StoreError) as caught:
        upgrade_store(url)
    assert caught.value.code == "store_broken" and "job_event" in caught.value.values["problem"]
    assert look(url)["schema"] == "0001"


def test_a_file_is_backed_up_before_it_is_upgraded(old_url: str) -> None:
    before = look(old_url)
    found, reached, saved = maintenance.upgrade(old_url)
    assert (found, reached, look(old_url)["schema"]) == ("0001", schema.HEAD, schema.HEAD)
    if old_url.startswith("sqlite"):
        assert saved is not None and look(f"sqlite:///{saved}") == before
        assert saved.stat().st_mode & 0o777 == 0o600
    else:
        assert saved is None
    assert maintenance.upgrade(old_url) == (schema.HEAD, schema.HEAD, None)
