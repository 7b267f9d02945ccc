"""Opening a store, its transactions, and what it refuses."""

from __future__ import annotations

import json
import resource
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, inspect, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError

from storage import drafts, schema, sqlite_file
from storage.database import Store, dump_json, open_store
from storage.errors import Fenced, NotFound, SchemaMismatch, StoreError
from storage.jobs import Job
from tests.stores import SQLITE

ROOT = Path(__file__).parents[2]


def _python(code: str, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _finished(process: subprocess.Popen[str]) -> str:
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    return output


def test_a_new_store_is_readable_by_its_owner_alone(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path / 'store.db'}")
    with store.write() as session:
        drafts.put(session, "train", {"epochs": 3})
        modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    store.dispose()
    assert modes["store.db"] == 0o600
    assert set(modes.values()) == {0o600}


@SQLITE
def test_a_file_that_others_could_read_is_closed_to_them(store_url: str, tmp_path: Path) -> None:
    (tmp_path / "store.db").chmod(0o644)
    open_store(store_url).dispose()
    assert (tmp_path / "store.db").stat().st_mode & 0o777 == 0o600


@SQLITE
@pytest.mark.alone
def test_opening_an_up_to_date_store_is_fast_and_does_not_import_alembic(store_url: str) -> None:
    code = (
        "import sys, time\nfrom storage.database import open_store\n"
        "begin = time.perf_counter(); open_store(sys.argv[1]); print(time.perf_counter() - begin)\n"
        "assert 'alembic' not in sys.modules"
    )
    assert float(_finished(_python(code, store_url))) < 0.15


def test_eight_processes_may_open_a_new_store_at_once(empty_url: str) -> None:
    url = empty_url
    code = "import sys\nfrom storage.database import open_store\nopen_store(sys.argv[1]).dispose()"
    for process in [_python(code, url) for _ in range(8)]:
        _finished(process)
    with open_store(url).read() as session:
        assert schema.found_schema(session.connection()) == schema.HEAD


@SQLITE
def test_connections_carry_the_settings_that_durability_needs(store: Store) -> None:
    expected = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "wal_autocheckpoint": 0, "mmap_size": 0}
    for transaction in (store.read, store.write):
        with transaction() as session:
            assert session.execute(text("PRAGMA busy_timeout")).scalar() == 10_000
            for pragma, value in expected.items():
                assert session.execute(text(f"PRAGMA {pragma}")).scalar() == value, pragma


def test_a_write_that_fails_leaves_nothing(store: Store) -> None:
    with pytest.raises(RuntimeError), store.write() as session:
        drafts.put(session, "train", {"epochs": 3})
        raise RuntimeError
    with store.read() as session:
        assert drafts.get(session, "train") == {}


def test_a_reader_cannot_write(store: Store) -> None:
    with pytest.raises(DBAPIError, match=r"readonly|read-only"), store.read() as session:
        drafts.put(session, "train", {})


@pytest.mark.alone
def test_a_reader_neither_waits_for_a_writer_nor_sees_its_unfinished_work(store: Store) -> None:
    with store.write() as writer:
        drafts.put(writer, "train", {"epochs": 3})
        begin = time.perf_counter()
        with store.read() as session:
            assert drafts.get(session, "train") == {}
        assert time.perf_counter() - begin < 1.0


@SQLITE
def test_a_writer_waits_for_another_writer(store: Store) -> None:
    order: list[str] = []

    def write_second() -> None:
        with store.write() as session:
            order.append("second")
            drafts.put(session, "train", {"by": "second"})

    with store.write() as session:
        thread = threading.Thread(target=write_second)
        thread.start()
        drafts.put(session, "train", {"by": "first"})
        thread.join(timeout=0.05)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


@SQLITE
def test_the_log_is_moved_only_after_something_was_written(store: Store, submit: Callable[..., Job]) -> None:
    store.checkpoint()
    assert not store.checkpoint()
    submit()
    assert store.checkpoint()
    assert not store.checkpoint()


def test_there_is_no_log_to_move_before_anything_was_opened(tmp_path: Path) -> None:
    store = Store(make_url(f"sqlite:///{tmp_path / 'store.db'}"))
    assert not store.checkpoint()


@SQLITE
def test_the_log_does_not_grow_when_it_is_moved_now_and_then(store: Store, tmp_path: Path) -> None:
    for number in range(60):
        with store.write() as session:
            drafts.put(session, "train", {"text": "x" * 20_000, "number": number})
        store.checkpoint()
    assert (tmp_path / "store.db-wal").stat().st_size < 300_000


@SQLITE
def test_a_log_that_finds_no_room_in_the_file_is_moved_later(store: Store, tmp_path: Path) -> None:
    """The log has old room for the change, and the file would have to grow: a limit on it stands for a full disk."""

    def put(page: str, num_bytes: int) -> None:
        with store.write() as session:
            drafts.put(session, page, {"text": "x" * num_bytes})

    put("first", 2_000_000)
    assert store.checkpoint()
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    full = max(path.stat().st_size for path in tmp_path.glob("store.db*"))
    resource.setrlimit(resource.RLIMIT_FSIZE, (full, usual[1]))
    try:
        put("second", 1_000_000)
        assert not store.checkpoint()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    assert store.checkpoint(), "with room again"
    with store.read() as session:
        assert len(drafts.get(session, "second")["text"]) == 1_000_000


@SQLITE
def test_opening_a_store_again_leaves_the_first_ones_log_under_it(store_url: str) -> None:
    """One process opens the store twice (a command and the pages), others come and go: the log must stay in place."""
    passing = "import sys; from storage.database import open_store; s = open_store(sys.argv[1]); "
    passing += "w = s.write(); session = w.__enter__(); from storage import drafts; "
    passing += "drafts.put(session, 'page', {'n': int(sys.argv[2])}); w.__exit__(None, None, None); s.dispose()"
    log = Path(f"{make_url(store_url).database}-wal")
    first = open_store(store_url)
    with first.read() as session:
        drafts.get(session, "page")
    open_store(store_url).dispose()
    place = log.stat().st_ino
    for number in (1, 2):
        subprocess.run([sys.executable, "-c", passing, store_url, str(number)], check=True)
        with first.read() as session:
            assert drafts.get(session, "page") == {"n": number}
    assert log.stat().st_ino == place, "another process took the log away"
    first.dispose()


def test_a_watch_tells_once_of_each_change(store: Store, submit: Callable[..., Job]) -> None:
    watch = store.watch()
    assert watch.changed()
    assert not watch.changed()
    submit()
    assert watch.changed()
    assert not watch.changed()
    watch.close()


def test_a_schema_from_the_future_is_refused_with_what_to_do(store: Store, store_url: str) -> None:
    with store.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(SchemaMismatch, match="Install the newer version") as caught:
        open_store(store_url)
    assert caught.value.values == {"found": "9999", "expected": schema.HEAD}
    with store.read() as session:
        assert schema.found_schema(session.connection()) == "9999"


def test_the_database_of_another_program_is_refused_and_left_as_it_is(empty_url: str) -> None:
    other = create_engine(empty_url)
    with other.begin() as connection:
        connection.execute(text("CREATE TABLE job (what TEXT)"))
    with pytest.raises(StoreError, match="another program") as caught:
        open_store(empty_url)
    assert (caught.value.code, caught.value.values) == ("store_foreign", {"tables": "job"})
    with other.connect() as connection:
        assert inspect(connection).get_table_names() == ["job"]
    other.dispose()


def test_the_making_of_a_store_that_is_interrupted_leaves_no_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from alembic import command

    upgrade = command.upgrade

    def interrupted(*arguments: Any) -> None:
        upgrade(*arguments)
        raise KeyboardInterrupt

    url = f"sqlite:///{tmp_path / 'store.db'}"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(command, "upgrade", interrupted)
        open_store(url)
    with sqlite3.connect(tmp_path / "store.db") as connection:
        assert connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
    connection.close()
    open_store(url).dispose()


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "store.db").write_text("this is a letter, not a database\n" * 100)
    with pytest.raises(StoreError) as caught:
        open_store(f"sqlite:///{tmp_path / 'store.db'}")
    assert caught.value.code == "store_unreadable"
    assert "not a database" in caught.value.values["problem"]


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="There is no folder") as caught:
        open_store(f"sqlite:///{tmp_path}/nowhere/store.db")
    assert caught.value.code == "store_folder_missing"


def test_a_folder_in_the_place_of_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError) as caught:
        open_store(f"sqlite:///{tmp_path}")
    assert caught.value.code == "store_unreadable"


def test_a_store_in_memory_is_refused_since_processes_could_not_share_it() -> None:
    with pytest.raises(StoreError) as caught:
        open_store("sqlite://")
    assert caught.value.code == "store_not_a_file"


def test_a_file_that_another_program_holds_is_reported_as_busy(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    blocker = sqlite3.connect(path, isolation_level=None)
    blocker.execute("CREATE TABLE other (id)")
    blocker.execute("BEGIN IMMEDIATE")
    store = Store(make_url(f"sqlite:///{path}"))
    connection = store._writer.raw_connection()
    connection.cursor().execute("PRAGMA busy_timeout=1")
    connection.close()
    with pytest.raises(StoreError) as caught:
        sqlite_file.switch_to_wal(store._writer, patience_s=0.05)
    assert caught.value.code == "store_busy"
    blocker.close()
    store.dispose()


def test_a_log_that_cannot_be_switched_on_for_another_reason_is_not_waited_for() -> None:
    class Broken:
        def execute(self, statement: str) -> None:
            raise sqlite3.OperationalError("disk I/O error")

    with pytest.raises(sqlite3.OperationalError, match="disk"):
        sqlite_file._is_wal(Broken())


def test_a_store_that_another_process_migrated_meanwhile_is_left_alone(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = iter([schema.NO_SCHEMA, schema.HEAD])
    monkeypatch.setattr(schema, "found_schema", lambda connection: next(found))
    schema.require(store._reader, store._writer, create=True)
    assert list(found) == []


def test_many_threads_may_read_and_write_at_once(store: Store) -> None:
    def put_many(page: str) -> None:
        for number in range(20):
            with store.write() as session:
                drafts.put(session, page, {"number": number})
            with store.read() as session:
                assert drafts.get(session, page) == {"number": number}

    threads = [threading.Thread(target=put_many, args=(f"page{number}",)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with store.read() as session:
        assert all(drafts.get(session, f"page{number}") == {"number": 19} for number in range(12))


def test_values_that_json_lacks_become_null() -> None:
    given = {"loss": float("nan"), "list": [float("inf"), 1.5, (2,)], "text": "ü", "whole": 3}
    assert json.loads(dump_json(given)) == {"loss": None, "list": [None, 1.5, [2]], "text": "ü", "whole": 3}
    odd = {"NUL": "a\0b", "half": "\ud83d", "whole": "\U0001f600", "code": "\\u0000", "key\0": 1}
    sign = "\N{REPLACEMENT CHARACTER}"
    plain = {"NUL": f"a{sign}b", "half": sign, "whole": "\U0001f600", "code": "\\u0000", f"key{sign}": 1}
    assert json.loads(dump_json(odd)) == plain


def test_a_store_survives_the_kill_of_its_writer(store_url: str) -> None:
    code = (
        "import sys\nfrom storage import drafts\nfrom storage.database import open_store\n"
        "store = open_store(sys.argv[1]); number = 0\n"
        "while True:\n"
        "    with store.write() as session:\n"
        "        drafts.put(session, 'a', {'number': number}); drafts.put(session, 'b', {'number': number})\n"
        "    print(number, flush=True); number += 1\n"
    )
    process = _python(code, store_url)
    assert process.stdout is not None
    acknowledged = [int(process.stdout.readline()) for _ in range(30)][-1]
    process.kill()
    process.communicate()
    store = open_store(store_url)
    with store.read() as session:
        first, second = drafts.get(session, "a"), drafts.get(session, "b")
        if store.file is not None:
            assert session.execute(text("PRAGMA integrity_check")).scalar() == "ok"
    store.dispose()
    assert first == second
    assert first["number"] >= acknowledged


def test_errors_carry_a_code_and_values_for_the_sentence_that_a_person_reads() -> None:
    assert str(StoreError("dataset_in_use", {"name": "a", "by": 3})) == "dataset_in_use (name=a, by=3)"
    assert str(StoreError("store_busy")) == "store_busy"
    assert (NotFound("job", 3).code, NotFound("job", 3).values) == ("job_not_found", {"id": 3})
    assert Fenced("job", 3, 2).values == {"noun": "job", "id": 3, "token": 2}
