"""`atelier store …`, and what every command says of a store of another version, or of one that is gone."""

from __future__ import annotations

import fcntl
import json
import shutil
import sqlite3
import sys
from pathlib import Path

import pytest

from app import cli
from engine.specs.home import Home
from storage import drafts, jobs, schema, sqlite_file
from storage.database import open_store, store_at
from storage.workers import NewWorker, add


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("ATELIER_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("ATELIER_STORE", raising=False)
    return Home.from_environment().ensure()


@pytest.fixture
def store(home):
    opened = open_store(home.store_url)
    yield opened
    opened.dispose()


@pytest.fixture
def atelier(home, monkeypatch, capsys):
    """Run a command in this process; gives its exit code, stdout and stderr."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["atelier", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        said = capsys.readouterr()
        return int(end.value.code or 0), said.out, said.err

    return run


def put(store, epochs):
    with store.write() as session:
        drafts.put(session, "train", {"epochs": epochs})


def got(home):
    opened = open_store(home.store_url, create=False)
    with opened.read() as session:
        found = drafts.get(session, "train")
    opened.dispose()
    return found.get("epochs")


def test_a_backup_goes_out_and_comes_back_and_the_present_store_is_kept(atelier, home, store, tmp_path):
    put(store, 1)
    code, out, _ = atelier("store", "backup", tmp_path / "saved.db", "--json")
    said = json.loads(out)
    assert code == 0 and said == {"path": str(tmp_path / "saved.db"), "bytes": (tmp_path / "saved.db").stat().st_size}
    put(store, 2)
    store.dispose()
    code, out, _ = atelier("store", "restore", tmp_path / "saved.db", "--json")
    said = json.loads(out)
    assert (code, got(home)) == (0, 1)
    assert said["store"] == str(home.root / "store.db") and Path(said["kept"]).is_file()
    code, out, _ = atelier("store", "restore", said["kept"])
    assert (code, got(home)) == (0, 2)
    assert "store-replaced-2.db" in out


@pytest.mark.parametrize("holder", ["worker_lock", "ui_lock"])
@pytest.mark.parametrize("command", [["restore", "saved.db"], ["upgrade"]])
def test_a_store_in_use_is_neither_restored_nor_upgraded(holder, command, atelier, home, store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    put(store, 1)
    atelier("store", "backup", "saved.db")
    put(store, 2)
    with getattr(home, holder).open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        code, out, err = atelier("store", *command, "--json")
    assert code == 64 and json.loads(out)["problems"][0]["code"] == "store_in_use"
    assert "atelier worker" in err
    assert got(home) == 2


def test_a_broken_backup_is_refused_and_the_store_stays(atelier, home, store, tmp_path):
    put(store, 1)
    store.dispose()
    (tmp_path / "saved.db").write_bytes(b"rubbish" * 1000)
    code, _, err = atelier("store", "restore", tmp_path / "saved.db")
    assert code == 70 and "not whole" in err and got(home) == 1
    code, _, _ = atelier("store", "restore", tmp_path / "none.db")
    assert code == 64


def test_a_backup_over_a_file_is_refused(atelier, store, tmp_path):
    (tmp_path / "letter").write_text("dear")
    code, _, err = atelier("store", "backup", tmp_path / "letter")
    assert code == 64 and "already" in err
    assert (tmp_path / "letter").read_text() == "dear"


def test_a_check_says_that_all_is_well_or_what_is_not(atelier, home, store):
    assert atelier("store", "check")[:2] == (0, "The store is whole.\n")
    with store._writer.connect() as connection:
        raw = connection.connection.driver_connection
        raw.execute("PRAGMA foreign_keys=OFF")
        raw.execute("INSERT INTO job_event (job_id, token, at, kind, data) VALUES (77, 0, 1, 'x', '{}')")
        raw.execute("PRAGMA foreign_keys=ON")
    code, out, _ = atelier("store", "check", "--json")
    assert code == 70
    assert json.loads(out) == {"ok": False, "faults": ["job_event row 1: its row in job is missing"]}


def test_the_rows_of_a_run_go_into_a_file(atelier, store, tmp_path):
    with store.write() as session:
        job = jobs.submit(session, kind="train", name="tone", spec={"seed": 7}, lane="gpu")
    code, out, _ = atelier("store", "rows", job.id, "--out", tmp_path / "rows.json", "--json")
    assert code == 0 and json.loads(out)["id"] == job.id
    found = json.loads((tmp_path / "rows.json").read_text())
    assert found["job"]["spec"] == {"seed": 7} and [one["kind"] for one in found["events"]] == ["submitted"]
    code, out, _ = atelier("store", "rows", 99, "--out", tmp_path / "none.json", "--json")
    assert json.loads(out)["problems"][0]["code"] == "job_not_found" and not (tmp_path / "none.json").exists()


# --- a store of another version ------------------------------------------------------------------------------------


@pytest.fixture
def old(home):
    """A home whose store an earlier version made."""
    opened = store_at(home.store_url, create=True)
    with opened._writer.begin() as connection:
        schema.migrate(connection, "0001")
    opened.dispose()
    return home


@pytest.mark.parametrize(("language", "words"), [("en", "older schema"), ("zh", "较旧")])
@pytest.mark.parametrize("command", [["up", "--port", "0"], ["worker"], ["jobs"], ["check"]])
def test_every_start_names_the_command_that_brings_an_old_store_up_to_date(
    language, words, command, atelier, old, monkeypatch
):
    monkeypatch.setenv("LC_ALL", {"en": "C", "zh": "zh_CN.UTF-8"}[language])
    code, out, err = atelier(*command)
    assert code == 70
    assert "atelier store upgrade" in out + err
    if command != ["check"]:  # its sentences were chosen when it was imported
        assert words in out + err


def test_an_old_store_is_upgraded_after_a_backup_and_then_opens(atelier, old):
    code, out, _ = atelier("store", "upgrade", "--json")
    said = json.loads(out)
    assert code == 0
    assert said == {
        "before": "0001",
        "after": schema.HEAD,
        "backup": str(old.root / f"store-before-{schema.HEAD}-1.db"),
    }
    assert atelier("jobs", "--json")[0] == 0
    code, out, _ = atelier("store", "upgrade", "--json")
    assert json.loads(out) == {"before": schema.HEAD, "after": schema.HEAD, "backup": None}


def test_a_store_that_is_lost_is_not_made_anew_over_the_files_of_its_runs(atelier, home, store, tmp_path):
    put(store, 5)
    atelier("store", "backup", tmp_path / "saved.db")
    store.dispose()
    (home.runs / "1").mkdir()
    for path in home.root.glob("store.db*"):
        path.unlink()
    code, out, _ = atelier("jobs", "--json")
    assert code == 70 and json.loads(out)["problems"][0]["code"] == "store_missing"
    assert not (home.root / "store.db").exists()
    assert atelier("store", "restore", tmp_path / "saved.db")[0] == 0
    assert got(home) == 5
    shutil.rmtree(home.runs / "1")


def test_the_self_check_refuses_a_store_on_a_network_and_warns_of_an_old_sqlite(atelier, home, monkeypatch):
    monkeypatch.setattr(sqlite_file, "network_kind", lambda folder: "nfs")
    monkeypatch.setattr("app.commands.check.SAFE_SQLITE", (99, 0, 0))
    code, out, _ = atelier("check", "--json")
    found = {one["code"]: one["warning"] for one in json.loads(out)["problems"]}
    assert code == 70 and found["store_on_network"] is False and found["check_sqlite_old"] is True
    monkeypatch.setenv(sqlite_file.NETWORK_SWITCH, "1")
    found = {one["code"] for one in json.loads(atelier("check", "--json")[1])["problems"]}
    assert "store_on_network" not in found


@pytest.mark.parametrize("command", ["up", "worker"])
def test_who_starts_a_worker_on_an_old_sqlite_is_warned(atelier, home, monkeypatch, command):
    monkeypatch.setattr("app.commands.processes.become_worker", lambda: None)
    monkeypatch.setattr("app.commands.up._serve", lambda *_: None)
    monkeypatch.setattr("app.commands.check.SAFE_SQLITE", (99, 0, 0))
    code, _, said = atelier(command)
    assert code == 0 and f"SQLite is {sqlite3.sqlite_version}; before 99.0.0" in said
    monkeypatch.setattr("app.commands.check.SAFE_SQLITE", (3, 0, 0))
    assert "SQLite" not in atelier(command)[2]


# --- a store on a server ---------------------------------------------------------------------------------------------


@pytest.fixture
def on_a_server(home, postgres_url, monkeypatch):
    monkeypatch.setenv("ATELIER_STORE", postgres_url)
    return Home.from_environment().ensure()


def test_commands_work_on_a_server_as_on_a_file(atelier, on_a_server, tmp_path):
    opened = open_store(on_a_server.store_url)
    with opened.write() as session:
        job = jobs.submit(session, kind="train", name="tone", spec={}, lane="gpu")
    assert [one["id"] for one in json.loads(atelier("jobs", "--json")[1])["items"]] == [job.id]
    assert atelier("cancel", job.id)[0] == 0
    assert atelier("store", "check")[0] == 0
    assert atelier("store", "rows", job.id, "--out", tmp_path / "rows.json")[0] == 0
    code, out, _ = atelier("store", "backup", tmp_path / "x", "--json")
    assert code == 64 and "pg_dump --format=custom" in json.loads(out)["problems"][0]["fix"]
    code, out, _ = atelier("store", "restore", tmp_path / "x", "--json")
    assert code == 64 and "pg_restore" in json.loads(out)["problems"][0]["fix"]
    found = {one["code"] for one in json.loads(atelier("check", "--json")[1])["problems"]}
    assert "check_sqlite_old" not in found
    with opened.write() as session:
        add(session, NewWorker("elsewhere", 1, None, "boot"))
    code, out, _ = atelier("store", "upgrade", "--json")
    assert code == 64 and json.loads(out)["problems"][0]["code"] == "store_in_use"
    opened.dispose()
