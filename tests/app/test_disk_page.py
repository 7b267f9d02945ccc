"""The Disk page: what takes how much, what can go and what stays, pins, backups and the check of the store."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from app import diskuse, downloads
from app.folders import bytes_below
from app.pages import disk as page
from engine.specs import printed
from storage import checkpoints, jobs, maintenance
from storage.checkpoints import NewCheckpoint
from storage.errors import StoreError
from storage.states import State

OLD = time.time() - 200_000


def put(path: Path, num_bytes: int, *, old: bool = False) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"0" * num_bytes)
    if old:
        for one in (path, path.parent):
            os.utime(one, (OLD, OLD))
    return path


def trained(ui, runs, name="tone", steps=(10, 20, 30, 40), best=20, *, end=True):
    job = runs.submit(name)
    claim = runs.claim()
    for step in steps:
        folder = ui.home.runs / str(job.id) / str(claim.token) / f"checkpoint-{step}"
        put(folder / "weights", 1000)
        new = NewCheckpoint(
            step=step, path=str(folder), manifest_sha="0" * 64, bytes=1000, base_path="/models/starter",
            quantization="nf4", dtype="bfloat16", is_adapter=True, eval_loss=0.1 if step == best else 0.9,
        )  # fmt: skip
        with ui.store.write() as session:
            checkpoints.add(session, claim, new)
    if end:
        runs.settle(claim, State.SUCCEEDED)
    return job


def steps_of(ui, job):
    with ui.store.read() as session:
        return [one.step for one in checkpoints.listing(session, job.id)]


def twice(ui, order):
    _, asked, armed = page.obey(ui, f"{order}:111", "")
    shown, said, after = page.obey(ui, f"{order}:112", armed)
    assert after == ""
    return asked, said, shown


# --- showing -------------------------------------------------------------------------------------------------------


def test_an_empty_home_is_shown(ui):
    shown = page.show(ui)
    assert "No checkpoints yet" in shown and "free" in shown and "Back up now" in shown


def test_each_part_tells_its_size_and_where_it_is_looked_after(ui, runs):
    trained(ui, runs)
    put(ui.home.datasets / "abc" / "rows.parquet", 3_000_000)
    put(ui.home.datasets / "tokens" / "key" / "train.parquet", 2_000_000)
    put(ui.home.models / "starter" / "model.safetensors", 7_000_000)
    put(ui.home.logs / "worker.log", 500_000)
    shown = page.show(ui)
    for word in ("4.0 kB", "3.0 MB", "2.0 MB", "7.0 MB", "500 kB", 'href="/data"', 'href="/models"', "/runs?run=1"):
        assert word in shown, word


@pytest.mark.alone
def test_ten_thousand_files_are_measured_while_the_page_waits(ui, runs):
    for folder in range(100):
        place = ui.home.datasets / "tokens" / str(folder)
        place.mkdir(parents=True)
        for file in range(100):
            (place / str(file)).touch()
    began = time.perf_counter()
    page.show(ui)
    assert time.perf_counter() - began < 1.5


def test_links_are_neither_followed_nor_counted(tmp_path):
    put(tmp_path / "outside" / "large", 9000)
    put(tmp_path / "home" / "small", 10)
    (tmp_path / "home" / "link").symlink_to(tmp_path / "outside")
    assert bytes_below(tmp_path / "home") == 10
    assert bytes_below(tmp_path / "nowhere") == 0


# --- checkpoints ---------------------------------------------------------------------------------------------------


def test_all_checkpoints_but_the_best_the_last_and_pinned_ones_go_at_the_second_click(ui, runs):
    job = trained(ui, runs)
    with ui.store.write() as session:
        checkpoints.pin(session, job.id, 10)
    before = list((ui.home.runs / str(job.id) / "1").iterdir())
    asked, said, shown = twice(ui, f"prune:{job.id}")
    assert "frees 1.0 kB" in asked and "Click again" in asked and "1 checkpoints are gone" in said
    assert steps_of(ui, job) == [10, 20, 40] and len(before) == 4
    assert not (ui.home.runs / str(job.id) / "1" / "checkpoint-30").exists()
    assert (ui.home.runs / str(job.id) / "1" / "checkpoint-20" / "weights").exists()
    assert "prune:" not in shown, "there is nothing more to free"


def test_the_first_click_deletes_nothing_and_another_order_disarms(ui, runs):
    job = trained(ui, runs)
    _, _, armed = page.obey(ui, f"prune:{job.id}:1", "")
    assert armed == f"prune:{job.id}" and steps_of(ui, job) == [10, 20, 30, 40]
    _, _, armed = page.obey(ui, f"pin:{job.id}:10:2", armed)
    assert armed == ""
    page.obey(ui, f"prune:{job.id}:3", armed)
    assert steps_of(ui, job) == [10, 20, 30, 40]


def test_a_run_that_has_not_ended_keeps_all_its_checkpoints(ui, runs):
    job = trained(ui, runs, end=False)
    assert f"prune:{job.id}" not in page.show(ui)
    twice(ui, f"prune:{job.id}")
    assert steps_of(ui, job) == [10, 20, 30, 40]


def test_checkpoints_are_pinned_and_unpinned(ui, runs):
    job = trained(ui, runs)
    page.obey(ui, f"pin:{job.id}:30:1", "")
    assert f'data-order="unpin:{job.id}:30"' in page.show(ui)
    page.obey(ui, f"unpin:{job.id}:30:2", "")
    assert f'data-order="pin:{job.id}:30"' in page.show(ui)


def test_a_checkpoint_that_a_waiting_run_starts_from_stays_and_stays_pinned(ui, runs):
    job = trained(ui, runs)
    with ui.store.write() as session:
        checkpoints.pin(session, job.id, 30)
    runs.submit("further", model__start_from=f"{job.id}@30")
    said = page.obey(ui, f"unpin:{job.id}:30:1", "")[1]
    assert "needs the checkpoint" in said
    twice(ui, f"prune:{job.id}")
    assert steps_of(ui, job) == [20, 30, 40]


def test_a_checkpoint_that_others_stand_on_stays(ui, runs):
    job = trained(ui, runs)
    with ui.store.read() as session:
        base = checkpoints.get(session, job.id, 30).path
    runs.submit("child")
    claim = runs.claim()
    new = NewCheckpoint(
        step=1, path="/x", manifest_sha="0" * 64, bytes=1, base_path=base, quantization="none", dtype="float32", is_adapter=True,
    )  # fmt: skip
    with ui.store.write() as session:
        checkpoints.add(session, claim, new)
    twice(ui, f"prune:{job.id}")
    assert steps_of(ui, job) == [20, 30, 40]


@pytest.mark.parametrize("order", ["prune:99", "export:99", "pin:99:1", "unpin:99:1"])
def test_what_is_gone_meanwhile_is_said_so(ui, order):
    said = page.obey(ui, f"{order}:1", order)[1]
    assert "There is no" in said


# --- the rest ------------------------------------------------------------------------------------------------------


def test_an_export_is_deleted_and_a_run_is_not_taken_for_one(ui, runs):
    run = trained(ui, runs)
    with ui.store.write() as session:
        export = jobs.submit(session, kind="export", name="tone", spec={"target": f"{run.id}@20"}, lane="gpu")
    claim = runs.claim()
    runs.settle(claim, State.SUCCEEDED)
    put(ui.home.exports / str(export.id) / "model.safetensors", 5000)
    asked, said, _ = twice(ui, f"export:{export.id}")
    assert "5.0 kB" in asked and "is deleted" in said and not (ui.home.exports / str(export.id)).exists()
    assert "There is no export" in twice(ui, f"export:{run.id}")[1]
    assert steps_of(ui, run)


def test_what_is_made_anew_is_cleared_but_not_under_a_run_that_reads_it(ui, runs):
    cache = put(ui.home.datasets / "tokens" / "key" / "train.parquet", 2000)
    code = put(ui.home.compiled / "ab" / "kernel.so", 3000)
    runs.submit()
    claim = runs.claim()
    assert "reads the token cache" in twice(ui, "tokens:0")[1] and cache.exists()
    runs.settle(claim, State.SUCCEEDED)
    asked, said, _ = twice(ui, "tokens:0")
    assert "5.0 kB" in asked and "is gone" in said and not cache.exists() and not code.exists()
    assert ui.home.datasets.is_dir()


def test_left_overs_are_found_by_age_and_owner(ui, runs):
    ended, running = trained(ui, runs), trained(ui, runs, "running", end=False)
    home = ui.home
    gone = [
        put(home.exports / ".tmp-7-1" / "x", 100, old=True).parent,
        put(home.models / ".tmp-a" / "x", 100, old=True).parent,
        put(home.runs / str(ended.id) / "1" / ".tmp-5-1" / "x", 100, old=True).parent,
        put(home.datasets / "tokens" / ".making-x" / "x", 100, old=True).parent,
        put(home.staging / "upload", 100, old=True),
        put(home.logs / "job-77.log", 100, old=True),
        put(home.logs / "job-77.log.1", 100, old=True),
        put(home.runs / "77" / "1" / "checkpoint-1" / "x", 100, old=True).parents[2],
    ]
    os.utime(gone[-1], (OLD, OLD))
    stays = [
        put(home.runs / str(running.id) / "2" / ".tmp-5-2" / "x", 100, old=True).parent,
        put(home.staging / "fresh", 100),
        put(home.models / ".tmp-b" / "x", 100).parent,
        put(home.log(ended.id), 100, old=True),
        put(printed.before(home.log(ended.id)), 100, old=True),
    ]
    for path in (home.staging, home.logs):
        os.utime(path)
    with ui.store.read() as session:
        assert set(diskuse.find_leftovers(session, home)) == set(gone)
    asked, said, _ = twice(ui, "leftovers:0")
    assert "800 B" in asked and "8 left-overs" in said
    assert not [path for path in gone if path.exists()] and all(path.exists() for path in stays)


def imported(ui, staged="upload"):
    with ui.store.write() as session:
        return jobs.submit(session, kind="import", name="rows", spec={"staged": staged}, lane="cpu")


def test_rows_of_a_cancelled_import_are_left_over_at_once_and_those_of_a_waiting_one_are_not(ui):
    waiting, cancelled = imported(ui), imported(ui)
    with ui.store.write() as session:
        jobs.cancel(session, cancelled.id)
    goes_on = put(ui.home.datasets / f".incoming-{waiting.id}-3" / "version" / "rows.parquet", 7_000_000, old=True)
    gone = [
        put(ui.home.datasets / f".incoming-{cancelled.id}-4" / "version" / "rows.parquet", 5_000_000).parents[1],
        put(ui.home.datasets / f".half.incoming-{cancelled.id}-5" / "state.json", 10).parent,
        put(ui.home.datasets / ".incoming-99-1" / "state.json", 10).parent,
    ]
    stays = put(ui.home.datasets / ".incoming-abcdefgh" / "rows.parquet", 10).parent
    put(ui.home.datasets / "abc" / "rows.parquet", 3_000_000)
    with ui.store.read() as session:
        assert set(diskuse.find_leftovers(session, ui.home)) == set(gone)
        use = diskuse.read(session, ui.home)
    assert (use.unfinished, use.leftover_bytes, use.datasets) == (7_000_000, 5_000_020, 3_000_010)
    shown = page.show(ui)
    assert "Unfinished imports" in shown and "7.0 MB" in shown and "5.0 MB" in shown
    twice(ui, "leftovers:0")
    assert goes_on.exists() and stays.exists() and not [path for path in gone if path.exists()]
    assert "they go on from here" in page.show(ui)


def test_the_upload_of_an_import_that_waits_for_days_stays(ui):
    waiting, ended = put(ui.home.staging / "waits", 10, old=True), put(ui.home.staging / "ended", 10, old=True)
    imported(ui, "waits")
    with ui.store.write() as session:
        jobs.cancel(session, jobs.submit(session, kind="import", name="x", spec={"staged": "ended"}, lane="cpu").id)
    with ui.store.read() as session:
        assert list(diskuse.find_leftovers(session, ui.home)) == [ended]
    assert waiting.exists()


# --- the store -----------------------------------------------------------------------------------------------------


@pytest.fixture
def client(ui):
    return TestClient(Starlette(routes=downloads.routes(ui.home, ui.store)))


def test_a_backup_is_made_listed_fetched_and_deleted(ui, runs, client):
    runs.submit("kept")
    shown, said, _ = page.obey(ui, "backup:0:1", "")
    [(number, _size)] = diskuse.backups(ui.home)
    path = diskuse.backup_path(ui.home, number)
    assert path.name in said and downloads.backup_address(number) in shown
    assert path.stat().st_mode & 0o777 == 0o600
    fetched = client.get(downloads.backup_address(number))
    assert fetched.content == path.read_bytes() and b"kept" in fetched.content
    assert fetched.headers["content-disposition"].startswith("attachment")
    twice(ui, f"unbackup:{number}")
    assert client.get(downloads.backup_address(number)).status_code == 404


def test_the_check_says_that_the_store_is_sound_or_what_is_wrong(ui, monkeypatch):
    assert "The store is sound" in page.obey(ui, "check:0:1", "")[1]
    monkeypatch.setattr(maintenance, "integrity", lambda store: ["row 3 missing from <index>"])
    said = page.obey(ui, "check:0:2", "")[1]
    assert "1 were found" in said and "row 3 missing from &lt;index&gt;" in said


def test_a_backup_that_cannot_be_made_is_said_so(ui, monkeypatch):
    def refuse(store, path):
        raise StoreError("store_backup_postgresql", {"command": "pg_dump --dbname=postgresql://server/atelier"})

    monkeypatch.setattr(maintenance, "backup", refuse)
    assert "postgresql" in page.obey(ui, "backup:0:1", "")[1]


def test_the_rows_of_a_run_are_fetched_as_json(ui, runs, client):
    job = trained(ui, runs)
    fetched = client.get(downloads.rows_address(job.id))
    assert fetched.headers["content-disposition"] == f'attachment; filename="run-{job.id}.json"'
    assert "tone" in json.dumps(fetched.json())
    assert client.get("/files/rows/99").status_code == 404
    assert client.get("/files/rows/" + "9" * 30).status_code == 404
    assert client.get("/files/backup/1").status_code == 404
