"""Care of the store: a backup while it is written to, its way back, what a check finds, and the rows of one run."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from storage import checkpoints, datasets, drafts, maintenance, metrics, models, schema, sqlite_file
from storage.database import Store, open_store
from storage.errors import NotFound, StoreError, StoreGone
from storage.jobs import Claim, Job
from storage.models import NewModel
from tests.stores import POSTGRESQL, SQLITE

Call = Callable[..., Any]


@SQLITE
def test_a_backup_taken_while_others_write_is_one_moment_of_the_store(store: Store, tmp_path: Path) -> None:
    with store.write() as session:
        drafts.put(session, "filler", {"text": "x" * 30_000_000})
    ended, numbers = threading.Event(), []

    def write_on() -> None:
        while not ended.is_set():
            number = len(numbers)
            with store.write() as session:
                for page in ("a", "b"):
                    drafts.put(session, page, {"number": number})
            numbers.append(number)

    writer = threading.Thread(target=write_on)
    writer.start()
    try:
        while len(numbers) < 5:
            ended.wait(0.01)
        began = len(numbers)
        size = maintenance.backup(store, tmp_path / "backup.db")
        during = len(numbers) - began
    finally:
        ended.set()
        writer.join()
    assert during > 0, "writers wait for a backup"
    saved = tmp_path / "backup.db"
    assert (saved.stat().st_size, saved.stat().st_mode & 0o777) == (size, 0o600)
    assert not [path for path in tmp_path.iterdir() if ".part" in path.name or path.name.startswith("backup.db-")]
    with sqlite3.connect(saved) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        rows = dict(connection.execute("SELECT page, content FROM draft WHERE page IN ('a', 'b')"))
    connection.close()
    assert rows["a"] == rows["b"] and json.loads(rows["a"])["number"] >= began - 1


@SQLITE
def test_a_backup_never_takes_the_place_of_a_file(store: Store, tmp_path: Path) -> None:
    taken = tmp_path / "letter.txt"
    taken.write_text("dear")
    for path, code in ((taken, "store_file_there"), (tmp_path / "no" / "b.db", "store_folder_missing")):
        with pytest.raises(StoreError) as caught:
            maintenance.backup(store, path)
        assert caught.value.code == code
    assert taken.read_text() == "dear"


@POSTGRESQL
def test_a_server_is_backed_up_by_its_own_tool(store: Store, tmp_path: Path) -> None:
    with pytest.raises(StoreError) as caught:
        maintenance.backup(store, tmp_path / "dump")
    command = caught.value.values["command"]
    assert command.startswith(f"pg_dump --format=custom --file={tmp_path / 'dump'} --dbname='postgresql://")


@SQLITE
def test_a_backup_comes_back_and_the_present_store_is_kept(store: Store, store_url: str, tmp_path: Path) -> None:
    with store.write() as session:
        drafts.put(session, "train", {"epochs": 1})
    maintenance.backup(store, tmp_path / "backup.db")
    with store.write() as session:
        drafts.put(session, "train", {"epochs": 2})
    store.dispose()
    kept = maintenance.restore(tmp_path / "store.db", tmp_path / "backup.db")
    assert kept is not None and kept.name == "store-replaced-1.db"
    for path, epochs in ((tmp_path / "store.db", 1), (kept, 2)):
        opened = open_store(f"sqlite:///{path}", create=False)
        with opened.read() as session:
            assert drafts.get(session, "train") == {"epochs": epochs}
        opened.dispose()
    assert (tmp_path / "store.db").stat().st_mode & 0o777 == 0o600
    assert maintenance.restore(tmp_path / "store.db", tmp_path / "backup.db").name == "store-replaced-2.db"


@SQLITE
def test_a_store_that_is_broken_or_lost_can_be_restored(store: Store, tmp_path: Path) -> None:
    maintenance.backup(store, tmp_path / "backup.db")
    store.dispose()
    database = tmp_path / "store.db"
    database.write_bytes(b"rubbish" * 1000)
    kept = maintenance.restore(database, tmp_path / "backup.db")
    assert kept is not None and kept.read_bytes().startswith(b"rubbish")
    for path in tmp_path.glob("store.db*"):
        path.unlink()
    assert maintenance.restore(database, tmp_path / "backup.db") is None
    opened = open_store(f"sqlite:///{database}", create=False)
    assert maintenance.integrity(opened) == []
    opened.dispose()


@SQLITE
@pytest.mark.parametrize("damage", ["missing", "rubbish", "cut", "flipped", "empty", "future"])
def test_what_is_no_whole_store_is_not_restored(damage: str, store: Store, tmp_path: Path) -> None:
    with store.write() as session:
        drafts.put(session, "train", {"text": "x" * 200_000})
    backup = tmp_path / "backup.db"
    maintenance.backup(store, backup)
    whole = backup.read_bytes()
    if damage == "missing":
        backup.unlink()
    elif damage == "future":
        connection = sqlite3.connect(backup)
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.commit()
        connection.close()
    else:
        flipped = whole[:4096] + bytes(100) + whole[4196:]
        backup.write_bytes({"rubbish": b"x" * 9000, "cut": whole[:60_000], "flipped": flipped, "empty": b""}[damage])
    with pytest.raises(StoreError) as caught:
        maintenance.restore(tmp_path / "store.db", backup)
    assert caught.value.code.startswith("store_backup_")
    with store.read() as session:
        assert drafts.get(session, "train") == {"text": "x" * 200_000}
    assert not list(tmp_path.glob(".*"))


@SQLITE
def test_a_damaged_database_is_found(store: Store, store_url: str, tmp_path: Path) -> None:
    with store.write() as session:
        drafts.put(session, "train", {"text": "x" * 200_000})
    store.checkpoint()
    store.dispose()
    database = tmp_path / "store.db"
    content = bytearray(database.read_bytes())
    for place in range(0, len(content), 4096):
        if (
            content[place + 4 : place + 104] == b"x" * 100
        ):  # a page of the long text, which begins with the next one's number
            content[place : place + 4] = b"\xff" * 4
    database.write_bytes(content)
    opened = open_store(store_url)
    assert maintenance.integrity(opened) != []
    with pytest.raises(StoreError) as caught:
        maintenance.backup(opened, tmp_path / "backup.db")
    assert caught.value.code == "store_broken"
    assert not list(tmp_path.glob("*backup*"))
    opened.dispose()


@SQLITE
def test_a_row_that_points_nowhere_is_found(store: Store) -> None:
    connection = sqlite3.connect(str(store.file))
    connection.execute("INSERT INTO job_event (job_id, token, at, kind, data) VALUES (77, 0, 1, 'x', '{}')")
    connection.commit()
    connection.close()
    assert maintenance.integrity(store) == ["job_event row 1: its row in job is missing"]


@POSTGRESQL
def test_a_rule_that_is_not_in_force_is_found(store: Store) -> None:
    assert maintenance.integrity(store) == []
    with store.write() as session:
        session.execute(text("ALTER TABLE job DROP CONSTRAINT ck_job_lane"))
        session.execute(text("ALTER TABLE job ADD CONSTRAINT ck_job_lane CHECK (lane <> 'x') NOT VALID"))
    assert maintenance.integrity(store) == ["constraint ck_job_lane is not validated"]


def test_checkpoints_are_compared_with_their_manifests_and_files_with_their_rows(
    store: Store, running: Claim, write: Call, new_checkpoint: Call, new_version: Call, tmp_path: Path
) -> None:
    for step in range(1, 6):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "weights").write_bytes(bytes([step]) * 100)
        digest = hashlib.sha256((folder / "weights").read_bytes()).hexdigest()
        manifest = json.dumps({"files": {"weights": {"bytes": 100, "sha256": digest}}}).encode()
        (folder / "manifest.json").write_bytes(manifest)
        sha = hashlib.sha256(manifest).hexdigest()
        write(checkpoints.add, running, new_checkpoint(step, path=str(folder), manifest_sha=sha))
    rows = tmp_path / "rows.parquet"
    rows.touch()
    write(datasets.add_version, new_version(path=str(rows)))
    write(models.add, NewModel("base", str(tmp_path), "folder", 1))
    assert maintenance.integrity(store) == []
    (tmp_path / "checkpoint-1" / "weights").write_bytes(b"\2" * 100)
    (tmp_path / "checkpoint-2" / "weights").unlink()
    (tmp_path / "checkpoint-3" / "manifest.json").write_text("{}")
    (tmp_path / "checkpoint-4" / "manifest.json").write_text('{"files": {}}')
    rows.unlink()
    assert maintenance.integrity(store) == [
        "checkpoint 1@1: weights is damaged",
        "checkpoint 1@2: weights is missing",
        "checkpoint 1@3: manifest.json cannot be read (KeyError)",
        "checkpoint 1@4: manifest.json is another one than the row names",
        f"dataset tickets@1: {rows} is missing",
    ]


def test_the_rows_of_a_run_are_all_of_its_rows(
    store: Store, running: Claim, write: Call, read: Call, submit: Call, new_checkpoint: Call, tmp_path: Path
) -> None:
    write(metrics.append, running, [metrics.Point("loss", 1, 0.5), metrics.Point("loss", 2, None)])
    write(checkpoints.add, running, new_checkpoint(2))
    other: Job = submit("other")
    with store.read() as session:
        size = maintenance.write_rows(session, running.job_id, tmp_path / "rows.json")
    assert (tmp_path / "rows.json").stat().st_size == size
    said = json.loads((tmp_path / "rows.json").read_text())
    assert (said["schema"], said["job"]["id"], said["job"]["state"]) == (schema.HEAD, running.job_id, "running")
    assert [(one["name"], one["step"], one["value"]) for one in said["metrics"]] == [
        ("loss", 1, 0.5),
        ("loss", 2, None),
    ]
    assert [one["kind"] for one in said["events"]] == ["submitted", "claimed", "checkpoint"]
    assert ([one["token"] for one in said["attempts"]], [one["step"] for one in said["checkpoints"]]) == ([1], [2])
    assert str(other.id) not in {str(row.get("job_id")) for row in said["events"]}
    with pytest.raises(NotFound):
        read(maintenance.run_rows, 99)


@SQLITE
@pytest.mark.parametrize("how", ["deleted", "replaced"])
def test_a_file_that_is_taken_away_under_an_open_store_is_noticed_and_not_made_anew(
    how: str, store: Store, store_url: str, empty_database: Path, tmp_path: Path
) -> None:
    watch = store.watch()
    watch.changed()
    for path in tmp_path.glob("store.db*"):
        path.unlink()
    if how == "replaced":
        (tmp_path / "store.db").write_bytes(empty_database.read_bytes())
    for use in (store.read, store.write):
        with pytest.raises(StoreGone, match="deleted or replaced"), use():
            pass
    assert watch.changed()
    assert (tmp_path / "store.db").exists() == (how == "replaced")


@SQLITE
def test_a_store_that_must_be_there_is_not_made(store_url: str, tmp_path: Path) -> None:
    (tmp_path / "store.db").unlink()
    with pytest.raises(StoreError) as caught:
        open_store(store_url, create=False)
    assert caught.value.code == "store_missing"
    (tmp_path / "store.db").touch()
    with pytest.raises(StoreError) as caught:
        open_store(store_url, create=False)
    assert caught.value.code == "store_missing"


@SQLITE
def test_a_store_on_a_network_is_refused_unless_it_is_forced(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert sqlite_file.network_kind(Path("/")) is None
    monkeypatch.setattr(sqlite_file, "network_kind", lambda folder: "nfs")
    with pytest.raises(StoreError) as caught:
        open_store(store_url)
    assert (caught.value.code, caught.value.values["kind"]) == ("store_on_network", "nfs")
    monkeypatch.setenv(sqlite_file.NETWORK_SWITCH, "1")
    open_store(store_url).dispose()


def test_the_kind_of_a_file_system_is_read_from_its_number(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Library:
        def __init__(self, *_: Any, **__: Any) -> None:
            pass

        def statfs(self, folder: bytes, answer: Any) -> int:
            if folder.endswith(b"gone"):
                return -1
            number = 0xFF534D42 if folder.endswith(b"share") else 0xEF53
            answer.raw = number.to_bytes(8, "little") + b"\xff" * 100
            return 0

    monkeypatch.setattr(sqlite_file.ctypes, "CDLL", Library)
    assert sqlite_file.network_kind(tmp_path / "share") == "cifs"
    assert sqlite_file.network_kind(tmp_path) is None
    assert sqlite_file.network_kind(tmp_path / "gone") is None
