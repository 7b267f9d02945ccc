"""Rows 9 to 11, 40 and 41: disks that are full or fail, power that is cut, folders and descriptors that are missing."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from sqlalchemy import select

from app import secret, staging
from engine import files
from engine.data import tokens
from engine.runtime import checkpoints, exporting, helpers
from engine.runtime.failures import is_disk_full
from engine.specs.problem import ProblemError
from storage import jobs, maintenance, metrics, settings
from storage.database import open_store
from storage.jobs import Holder
from storage.metrics import Point, metric
from tests.faults.house import ROOT, House
from tests.faults.recorder import Recorder
from tests.faults.test_processes import undisturbed

IMAGES = 240
DISK_MB = 160
CALLS = ("fsync", "fdatasync", "pwrite64", "write", "rename")


@contextlib.contextmanager
def small_disk(folder: Path, megabytes: int = DISK_MB) -> Iterator[Path]:
    """A disk of that size; skips where none may be mounted."""
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=700", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("a small disk cannot be mounted here: that takes root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path, spare: int = 0) -> Path:
    """Take all the space of a disk but `spare` bytes."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while shutil.disk_usage(folder).free > spare:
            file.write(bytes(1 << 14))
    return ballast


@pytest.mark.parametrize("spare", [0, 700_000], ids=["nothing is left", "no checkpoint fits"])
def test_09_a_full_disk_is_said_and_the_run_goes_on_once_there_is_space(tmp_path: Path, seed: int, spare: int) -> None:
    with small_disk(tmp_path / "house" / "home") as disk:
        house = House(tmp_path / "house", seed=seed)
        try:
            job_id = house.submit(steps=200, save_every=10, bytes=1_000_000)
            worker = house.start()
            held = house.reach(job_id, 25)
            ballast = fill(disk, spare)
            if spare:
                house.wait(lambda: house.job(job_id).reason == "disk_full", 60, "it says that the disk is full")
                assert (house.job(job_id).state, house.job(job_id).held) == ("queued", False)
            else:  # not even that can be said: the store lies on the same disk
                house.wait(lambda: not psutil.pid_exists(held.pid), 60, "the run stops")
                assert worker.lives(), worker.said()
            kept = house.checkpoints(job_id)
            assert kept
            for row in kept:
                checkpoints.verify(Path(row.path))
            ballast.unlink()
            house.wait(lambda: house.job(job_id).token > 1, 60, "it goes on")
            house.finish(job_id)
            undisturbed(house, job_id, 200)
            ends = {one.data["state"] for one in house.events(job_id, "settled")}
            assert ends == {"queued", "succeeded"}, "a full disk is a pause, never an end"
            assert "disk_full" in house.outcomes(job_id)
            assert house.attempts(job_id)[-1].resumed_from_step, "it went on from a checkpoint"
            house.check()
        finally:
            house.close()


def test_09_a_store_that_cannot_grow_ends_no_worker(tmp_path: Path, seed: int) -> None:
    """The log has old room, so that rows can be written, and the database file has none to take them in."""
    with small_disk(tmp_path / "house" / "home") as disk:
        house = House(tmp_path / "house", seed=seed)
        try:
            file = disk / "store.db"
            worker = house.start()
            _put(house, "first", 4_000_000)
            house.wait(lambda: file.stat().st_size > 4_000_000, 30, "the worker moves the log")
            ballast = fill(disk)
            _put(house, "second", 2_000_000)
            house.wait(lambda: "log was not moved" in worker.said(), 30, "the worker says what it cannot do")
            assert worker.lives(), worker.said()
            ballast.unlink()
            house.wait(lambda: file.stat().st_size > 6_000_000, 30, "with space again, the log is moved")
            job_id = house.submit(steps=20)
            house.finish(job_id)
            undisturbed(house, job_id, 20)
            house.check()
        finally:
            house.close()


def _put(house: House, key: str, num_bytes: int) -> None:
    with house.store.write() as session:
        settings.put(session, key, "x" * num_bytes)


def test_09_an_upload_that_does_not_fit_leaves_nothing(tmp_path: Path, seed: int, monkeypatch) -> None:
    with small_disk(tmp_path / "house" / "home", 8):
        house = House(tmp_path / "house", seed=seed)
        try:
            upload = tmp_path / "rows.jsonl"
            upload.write_bytes(b"x" * 20_000_000)
            with pytest.raises(ProblemError, match="file_no_room"):
                staging.stage(house.home, upload)
            monkeypatch.setattr(staging, "SPARE_BYTES", -(10**9))  # the check is fooled: the copy itself must fail
            with pytest.raises(ProblemError, match="file_no_room"):
                staging.stage(house.home, upload)
            assert list(house.home.staging.iterdir()) == []
            house.check()
        finally:
            house.close()


def test_09_an_export_that_does_not_fit_is_refused_before_it_writes(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 4) as disk:
        base = tmp_path / "base"
        base.mkdir()
        (base / "model.safetensors").write_bytes(bytes(8_000_000))
        with pytest.raises(OSError, match="No space left") as caught:
            exporting._check_space(disk, SimpleNamespace(base_path=base))  # type: ignore[arg-type]
        assert is_disk_full(caught.value)
        assert list(disk.iterdir()) == []


def test_09_a_log_on_a_full_disk_stops_no_child(tmp_path: Path, seed: int) -> None:
    with small_disk(tmp_path / "house" / "home" / "logs", 1) as logs:
        house = House(tmp_path / "house", seed=seed)
        try:
            fill(logs)
            job_id = house.submit(steps=40, fault="text", fault_at=5, flood_bytes=3_000_000)
            house.start()
            house.finish(job_id)
            undisturbed(house, job_id, 40)
            house.check()
        finally:
            house.close()


WORDS = {"row": 2, "saved": 3}
WRITES_AND_SAVES = """
import sys
from pathlib import Path
from engine.runtime import checkpoints
from storage import jobs
from storage.database import open_store

store, parent = open_store(sys.argv[1]), Path(sys.argv[2])
print("ready", flush=True)
for number in range(1, 7):
    with store.write() as session:
        made = jobs.submit(session, kind="train", name=str(number), spec={}, lane="gpu")
    print("row", made.id, flush=True)
    def write(folder):
        (folder / "weights.bin").write_bytes(bytes([number]) * 5000)
    folder, manifest = checkpoints.save(parent, write, step=number, token=1, spec={})
    print("saved", folder, manifest.sha256, flush=True)
"""


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace injects the errors")
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
def test_10_an_error_at_the_nth_call_loses_nothing_that_was_acknowledged(
    bare_house: House, call: str, error: str
) -> None:
    house = bare_house
    for number in sorted(house.random.sample(range(1, 61), 3)):
        parent = house.home.runs / f"{number}" / "1"
        lasting = "+" if error == "ENOSPC" else ""  # a full disk stays full, a bad sector is met once
        inject = f"inject={call}:error={error}:when={number}{lasting}"
        command = ["strace", "-f", "-o", "/dev/null", "-e", f"trace={call}", "-e", inject, sys.executable, "-c"]
        done = subprocess.run(
            [*command, WRITES_AND_SAVES, house.home.store_url, str(parent)],
            cwd=ROOT, env=house.environment, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        lines = [line.split() for line in done.stdout.splitlines()]
        told = [words for words in lines if len(words) == WORDS.get(words[0] if words else "")]  # whole lines
        store = open_store(house.home.store_url)
        with store.read() as session:
            ids = {one.id for one in jobs.listing(session, limit=10_000)}
        store.dispose()
        rows = {int(words[1]) for words in told if words[0] == "row"}
        assert rows <= ids, f"{call} {error} at {number}"
        for one in rows:
            house.acknowledge(one)
        for words in told:
            if words[0] == "saved":
                assert checkpoints.verify(Path(words[1])).sha256 == words[2]
        for folder in parent.glob("checkpoint-*"):
            checkpoints.verify(folder)
    house.check(without=["I6"])  # nobody serves the queue here


def test_11_a_log_cut_or_garbled_anywhere_holds_a_prefix_of_the_commits(bare_house: House) -> None:
    """Job row and metric row of one commit are both there, or neither; nothing of a later commit without the earlier."""
    house = bare_house
    job_id = house.submit(steps=1)
    with house.store.write() as session:
        taken = jobs.claim(session, Holder("w", "h", "b"), lanes=["gpu"], lease_s=600)
    assert taken is not None
    house.store.checkpoint()
    for step in range(1, 121):
        with house.store.write() as session:
            metrics.append(session, taken[0], [Point("loss", step, float(step))])
            jobs.progress(session, taken[0], step=step, total=120)
    source = house.home.root
    log = (source / "store.db-wal").read_bytes()
    assert len(log) > 200_000
    prefixes = set()
    for number in range(IMAGES):
        image = house.root / f"image-{number}"
        image.mkdir()
        shutil.copy(source / "store.db", image)
        cut = house.random.randrange(len(log) + 1)
        tail = house.random.randbytes(house.random.randrange(1, 9000)) if number % 2 else b""
        (image / "store.db-wal").write_bytes(log[:cut] + tail)
        store = open_store(f"sqlite:///{image / 'store.db'}")
        with store.read() as session:
            assert session.connection().exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
            steps = list(session.execute(select(metric.c.step).order_by(metric.c.step)).scalars())
            reported = jobs.get(session, job_id).progress_step
        store.dispose()
        assert steps == list(range(1, len(steps) + 1)), f"image {number}, cut at {cut}"
        assert (reported or 0) == len(steps), f"image {number}, cut at {cut}"
        prefixes.add(len(steps))
        shutil.rmtree(image)
    assert len(prefixes) > IMAGES // 4


@pytest.mark.sample
def test_11_no_checkpoint_is_renamed_before_it_is_on_the_disk(tmp_path: Path) -> None:
    def write(folder: Path) -> None:
        (folder / "weights.bin").write_bytes(os.urandom(100_000))
        (folder / "inner").mkdir()
        (folder / "inner" / "state.json").write_text("{}")

    with Recorder(tmp_path) as recorder:
        checkpoints.save(tmp_path / "run" / "1", write, step=1, token=1, spec={})
        checkpoints.save(tmp_path / "run" / "1", write, step=2, token=1, spec={})
    assert [name for name, *_ in recorder.renames if name.startswith("checkpoint-")] == ["checkpoint-1", "checkpoint-2"]
    assert recorder.wrong == []


@pytest.mark.sample
def test_11_no_file_is_replaced_before_it_is_on_the_disk(tmp_path: Path) -> None:
    with Recorder(tmp_path) as recorder:
        files.write_json(tmp_path / "1" / "result.json", {"ok": True})
        (tmp_path / "made").mkdir()
        (tmp_path / "made" / "rows.parquet").write_bytes(b"rows")
        files.publish(tmp_path / "made", tmp_path / "final")
    assert len(recorder.renames) == 2
    assert recorder.wrong == []


@pytest.fixture
def written(bare_house: House) -> tuple[House, int]:
    """A house with a job whose rows can be written out; its log is in the database file, and nobody has it open."""
    job_id = bare_house.submit()
    bare_house.store.dispose()
    return bare_house, job_id


@pytest.mark.sample
def test_11_no_backup_is_in_its_place_before_it_is_on_the_disk(written: tuple[House, int], tmp_path: Path) -> None:
    house, _ = written
    with Recorder(tmp_path) as recorder:
        maintenance.backup(house.store, tmp_path / "backup.db")
    assert [name for name, *_ in recorder.renames] == ["backup.db"]
    assert recorder.wrong == []


@pytest.mark.sample
def test_11_no_rows_are_in_their_place_before_they_are_on_the_disk(written: tuple[House, int], tmp_path: Path) -> None:
    house, job_id = written
    with Recorder(tmp_path) as recorder, house.store.read() as session:
        maintenance.write_rows(session, job_id, tmp_path / "rows.json")
    assert [name for name, *_ in recorder.renames] == ["rows.json"]
    assert recorder.wrong == []


@pytest.mark.sample
def test_11_no_backup_takes_the_place_of_the_store_before_it_is_on_the_disk(
    written: tuple[House, int], tmp_path: Path
) -> None:
    house, _ = written
    maintenance.backup(house.store, tmp_path / "backup.db")
    house.store.dispose()
    with Recorder(tmp_path) as recorder:
        maintenance.restore(house.home.root / "store.db", tmp_path / "backup.db")
    assert [name for name, *_ in recorder.renames] == ["store.db"]
    assert recorder.wrong == []


@pytest.mark.sample
def test_11_no_token_rows_are_in_their_place_before_they_are_on_the_disk(tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    for name in ("train.parquet", "prepared.json"):
        (tmp_path / "made" / name).write_bytes(b"rows")
    with Recorder(tmp_path) as recorder:
        tokens._publish(tmp_path / "made", tmp_path / "key")
    assert [name for name, *_ in recorder.renames] == ["key"]
    assert recorder.wrong == []


@pytest.mark.sample
def test_11_a_file_that_was_taken_in_is_on_the_disk(bare_house: House, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("{}\n")
    with Recorder(tmp_path) as recorder:
        staging.stage(bare_house.home, tmp_path / "rows.jsonl")
        recorder.judge(bare_house.home.staging)
    assert recorder.wrong == []


@pytest.mark.sample
def test_11_a_secret_is_on_the_disk_before_it_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    with Recorder(tmp_path) as recorder:
        secret.write(tmp_path / "password", "correct horse")
    assert [name for name, *_ in recorder.renames] == ["password"]
    assert recorder.wrong == []


@pytest.mark.sample
def test_11_the_recorder_notices_a_rename_before_its_fsync(tmp_path: Path) -> None:
    with Recorder(tmp_path) as recorder:
        (tmp_path / "made").mkdir()
        (tmp_path / "made" / "rows").write_bytes(b"rows")
        (tmp_path / "made").rename(tmp_path / "final")
    assert {what for _, what in recorder.wrong} == {
        "not on the disk",
        "its entries are not on the disk",
        "never reached the disk",
    }


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace records the calls")
def test_11_the_system_sees_each_fsync_before_its_rename(house: House) -> None:
    """The same order, as the kernel was asked for it by a process of its own."""
    parent = house.home.runs / "99" / "1"
    script = (
        "import sys; from pathlib import Path; from engine.runtime import checkpoints\n"
        "def write(folder): (folder / 'weights.bin').write_bytes(b'w' * 5000)\n"
        "checkpoints.save(Path(sys.argv[1]), write, step=1, token=1, spec={})\n"
    )
    record = house.root / "calls"
    calls = "trace=write,fsync,rename,renameat,renameat2"
    subprocess.run(
        ["strace", "-f", "-y", "-o", str(record), "-e", calls, sys.executable, "-c", script, str(parent)],
        cwd=ROOT, env=house.environment, check=True, timeout=60,
    )  # fmt: skip
    lines = [line for line in record.read_text().splitlines() if "/runs/99/" in line]
    (rename,) = [place for place, line in enumerate(lines) if "rename" in line and "checkpoint-1" in line]
    for name in ("weights.bin", "manifest.json", ".tmp-1-1>"):
        written = max((n for n, line in enumerate(lines) if " write(" in line and name in line), default=-1)
        synced = [n for n, line in enumerate(lines) if "fsync(" in line and name in line]
        assert any(written < n < rename for n in synced), f"{name} was renamed before its fsync"
    assert any("fsync(" in line and line.count("/runs/99/1>") for line in lines[rename:]), "the folder above"
    shutil.rmtree(parent)


def test_40_every_folder_that_cannot_be_written_is_named_at_once(house: House) -> None:
    with contextlib.ExitStack() as stack:
        closed = (house.home.logs, house.home.exports)
        for folder in closed:
            folder.rmdir()
            stack.enter_context(small_disk(folder, 1))
            subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        said = _check(house)
        told = [json.dumps(one) for one in said["problems"] if one["code"] == "home_unusable"]
        assert [sum(str(folder) in one for one in told) for folder in closed] == [1, 1], said


def _check(house: House) -> dict:
    done = subprocess.run(
        [sys.executable, "-c", "from app.cli import main; main()", "check", "--json"],
        cwd=ROOT, env=house.environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return json.loads(done.stdout)


def test_40_an_open_umask_opens_nothing_to_others(house: House) -> None:
    job_id = house.submit(steps=20)
    house.start(prepare=lambda: os.umask(0) and None)
    house.finish(job_id)
    undisturbed(house, job_id, 20)
    tops = [house.home.root, *house.home.root.iterdir()]
    guarded = [path for path in tops if path.is_dir() or path.name.startswith("store.db")]
    assert [path.name for path in guarded if stat.S_IMODE(path.stat().st_mode) & 0o077] == []


@pytest.mark.parametrize("spare", [0, 2, 6])
def test_41_without_descriptors_nothing_is_half_started(house: House, spare: int) -> None:
    worker = house.start(ATELIER_FAULT_HELPERS=1)
    house.finish(house.submit(steps=5))
    house.wait(lambda: _previews(house), 30, "the preview child lives")
    time.sleep(1.0)
    (preview,) = _previews(house)
    preview.kill()
    house.wait(lambda: "preview child ended" in worker.said(), 30, "its death is seen")
    usual = resource.prlimit(worker.pid, resource.RLIMIT_NOFILE)
    few = psutil.Process(worker.pid).num_fds() + spare
    resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, (few, usual[1]))
    job_id = house.submit(steps=20)
    house.wait(lambda: house.job(job_id).token > 0 or "store not reached" in worker.said(), 30, "it tries")
    time.sleep(helpers.RESTART_AFTER_S + 1.0)
    assert worker.lives(), worker.said()
    alone = [one for one in house.children() if "engine.runtime.preview" not in one.cmdline()]
    assert alone == [], "nothing runs that nobody looks after"
    resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, usual)
    house.finish(job_id)
    undisturbed(house, job_id, 20)
    assert "not_started" in house.outcomes(job_id) or "store not reached" in worker.said()
    house.wait(lambda: _previews(house), 30, "the preview child is back")


def _previews(house: House) -> list[psutil.Process]:
    return [one for one in house.children() if "engine.runtime.preview" in one.cmdline()]


def test_41_without_room_for_processes_nothing_is_half_started(house: House) -> None:
    group = Path("/sys/fs/cgroup/pids") / f"atelier-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no group that limits processes can be made here: {error.strerror}")
    worker = house.start()
    try:
        house.finish(house.submit(steps=5))
        (group / "cgroup.procs").write_text(str(worker.pid))
        for spare in (0, 1):  # no process at all, and a process without the thread that reads its output
            now = int((group / "pids.current").read_text())
            (group / "pids.max").write_text(str(now + spare))
            job_id = house.submit(steps=20)
            house.wait(lambda job_id=job_id: house.job(job_id).token > 0, 30, "it tries")
            time.sleep(1.0)
            assert worker.lives(), worker.said()
            assert house.job(job_id).state in ("queued", "running")
            (group / "pids.max").write_text("max")
            house.finish(job_id)
            undisturbed(house, job_id, 20)
    finally:
        (group / "pids.max").write_text("max")
        worker.stop()
        for pid in (group / "cgroup.procs").read_text().split():
            (group.parent / "cgroup.procs").write_text(pid)
        group.rmdir()
