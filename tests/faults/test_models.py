"""Rows 3, 9, 20, 23, 38 and 39 with real models: what is killed, a disk that is full, data that is damaged."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from engine.data.importer import store_rows
from engine.runtime import checkpoints
from storage import datasets, jobs, messages
from storage.datasets import NewVersion
from storage.targets import resolve
from tests.faults.dryrun import curve_to
from tests.faults.house import ROOT, House
from tests.faults.invariants import check_invariants
from tests.faults.test_disk import small_disk
from tests.runtime.conftest import Studio
from tests.runtime.training_room import Room, make_room

SAMPLE = ROOT / "assets" / "samples" / "tickets.jsonl"
SHORT = {"max_steps": 4, "eval_every_steps": 2, "save_every_steps": 1}


@pytest.fixture
def room(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Room]:
    """A home with the tiny model and both samples; after the case I1 to I9 hold."""
    (tmp_path / "house").mkdir()
    with make_room(tiny_model, tmp_path / "house" / "home", monkeypatch) as made:
        yield made
        check_invariants(made.store, made.home)


@pytest.mark.timeout(600)
def test_03_a_real_trainer_killed_at_random_ends_with_the_same_bytes(
    tiny_model: Path, tmp_path: Path, seed: int
) -> None:
    arguments = ["--kills", "4", "--seed", str(seed), "--home", str(tmp_path / "home"), "--model", str(tiny_model)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.kills", *arguments],
        cwd=ROOT, capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:] + done.stdout
    told = json.loads(done.stdout)
    assert (told["kills"], told["equal"], told["differences"]) == (4, 4, [])


def test_20_a_loss_that_is_no_number_ends_the_dryrun_with_a_gap(house: House) -> None:
    job_id = house.submit(steps=40, nan_at=25)
    worker = house.start()
    done = house.finish(job_id)
    assert (done.state, done.reason, done.values["step"]) == ("failed", "non_finite", 25)
    assert house.curve(job_id) == [*curve_to(24), (25, None)], "the chart shows a gap"
    assert [one.step for one in house.checkpoints(job_id)] == [10, 20]
    assert len(house.attempts(job_id)) == 1 and worker.lives()


def test_20_a_real_run_that_explodes_stops_and_keeps_its_last_good_checkpoint(room: Room) -> None:
    wild = {"learning_rate": 1e9, "max_grad_norm": 1000.0, "warmup_ratio": 0.3, "max_steps": 40}
    done = room.train(training={**wild, "save_every_steps": 1, "eval_every_steps": 1})
    assert (done.state, done.reason in ("non_finite", "diverged"), done.attempt) == ("failed", True, 1), room.log(
        done.id
    )
    assert room.checkpoints(done.id)
    for one in room.checkpoints(done.id):
        checkpoints.verify(Path(one.path))
    assert json.loads(json.dumps(room.curve(done.id), allow_nan=False)), "whatever it met, what is shown is JSON"


def bring_in(room: Room, source: Path, name: str) -> Path:
    """Import a file; returns where its rows lie."""
    stored = store_rows(source, room.home.datasets)
    found = stored.inspection
    new = NewVersion(
        name=name, sha256=stored.sha256, path=str(stored.path), row_kind=found.row_kind, format=found.format,
        rows=found.rows, usable_rows=found.usable_rows, bytes=stored.bytes, source_name=source.name,
    )  # fmt: skip
    with room.store.write() as session:
        datasets.add_version(session, new)
    return stored.path


def some_rows(folder: Path, number: int) -> Path:
    source = folder / "mine.jsonl"
    lines = SAMPLE.read_text(encoding="utf-8").splitlines()
    source.write_text("\n".join(lines[:number]) + "\n", encoding="utf-8")
    return source


def test_23_a_file_that_is_changed_under_a_run_changes_nothing(room: Room, tmp_path: Path) -> None:
    source = some_rows(tmp_path, 40)
    bring_in(room, source, "mine")
    whole = room.train(data={"dataset": "mine"}, training=SHORT)
    job_id = room.submit(data={"dataset": "mine"}, training=SHORT)
    room.work(lambda: len(room.checkpoints(job_id)) >= 1)
    source.write_text('{"messages": []}\n')
    os.kill(room.job(job_id).pid, signal.SIGKILL)
    source.unlink()
    done = room.finish(job_id)
    assert done.state == "succeeded", room.log(job_id)
    assert room.curve(job_id) == room.curve(whole.id)


@pytest.mark.parametrize("damage", ["gone", "flipped"])
def test_23_rows_that_are_damaged_are_not_trained_on(room: Room, tmp_path: Path, damage: str) -> None:
    rows = bring_in(room, some_rows(tmp_path, 30), "mine")
    if damage == "gone":
        rows.unlink()
    else:
        flip(rows)
    done = room.train(data={"dataset": "mine"}, training=SHORT)
    with room.store.read() as session:
        (attempt,) = jobs.attempts(session, done.id)
    assert (done.state, attempt.exit_code) == ("failed", 65), room.log(done.id)
    assert not room.curve(done.id)


def flip(path: Path) -> None:
    """Change one bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 4
    path.chmod(0o600)
    path.write_bytes(bytes(data))


@pytest.fixture
def studio(house: House, tiny_model: Path) -> Studio:
    """The house with a base, rows, and a finished run with an adapter, its processes real."""
    made = Studio(house.home, house.store)
    made.add_base("tiny", tiny_model)
    told = [json.loads(line) for line in SAMPLE.read_text(encoding="utf-8").splitlines()]
    made.add_rows(
        "rows", [{"messages": [{**m, "train": None} for m in row["messages"]], "split": row["split"]} for row in told]
    )
    return made


def adapter_of(base: Path, folder: Path) -> None:
    """Write an adapter that changes nothing much, in a process of its own."""
    script = (
        "import sys, torch\nfrom peft import LoraConfig, get_peft_model\nfrom pathlib import Path\n"
        "from engine.models.loading import load_model\n"
        "settings = LoraConfig(r=4, target_modules='all-linear', task_type='CAUSAL_LM')\n"
        "get_peft_model(load_model(Path(sys.argv[1]), dtype='float32'), settings).save_pretrained(sys.argv[2])\n"
    )
    subprocess.run([sys.executable, "-c", script, str(base), str(folder)], cwd=ROOT, check=True)
    (folder / "README.md").unlink(missing_ok=True)


def ask(house: House, target: str, **params: Any) -> int:
    told = {"system": "", "temperature": 0.0, "max_tokens": 12, "seed": 1, **params}
    with house.store.write() as session:
        found = [resolve(session, target)]
        return messages.ask(session, conversation_id=None, text="Say something.", targets=found, params=told)[1][0]


def answer(house: House, number: int, seconds: float = 90) -> messages.Message:
    def read() -> messages.Message:
        with house.store.read() as session:
            return messages.get(session, number)

    house.wait(lambda: read().finished_at is not None, seconds, "an answer")
    return read()


def chat_process(house: House) -> psutil.Process:
    (found,) = [one for one in house.children() if "engine.runtime.chat" in one.cmdline()]
    return found


@pytest.mark.timeout(400)
def test_38_a_chat_killed_in_an_answer_is_said_and_the_next_one_answers(studio: Studio, house: House) -> None:
    run = studio.add_run("tiny", lambda folder: adapter_of(studio.bases["tiny"], folder))
    house.start(ATELIER_FAULT_HELPERS=1, ATELIER_FAULT_REAL=1, ATELIER_TORCH_THREADS=1)
    first = ask(house, "base:tiny", max_tokens=500)

    def has_begun() -> bool:
        with house.store.read() as session:
            return bool(messages.get(session, first).content)

    house.wait(has_begun, 120, "the answer grows")
    chat_process(house).kill()
    broken = answer(house, first)
    assert (broken.state, broken.reason, bool(broken.content)) == ("failed", "chat_died", True)
    assert answer(house, ask(house, "base:tiny")).state == "done"
    told = ask(house, str(run))
    assert answer(house, told).state == "done"
    with house.store.read() as session:
        folder = resolve(session, str(run)).adapter_path
    assert folder is not None
    shutil.move(folder, house.root / "away")
    lost = answer(house, ask(house, str(run)))
    assert (lost.state, lost.reason) == ("failed", "model_checkpoint_broken")
    assert answer(house, ask(house, "base:tiny")).state == "done", "the others go on"
    shutil.move(house.root / "away", folder)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("form", "megabytes"), [("merged", 4), ("adapter", 2)])
def test_09_an_export_that_meets_a_full_disk_says_so_and_leaves_nothing(
    studio: Studio, house: House, form: str, megabytes: int
) -> None:
    """Its look at the disk beforehand was fooled: the write itself fails, in a library or in our own copy."""
    run = studio.add_run("tiny", lambda folder: adapter_of(studio.bases["tiny"], folder))
    exports = house.home.exports
    exports.rmdir()
    with small_disk(exports, megabytes):
        worker = house.start(ATELIER_FAULT_REAL=1, ATELIER_FAULT_UNCHECKED=1, ATELIER_TORCH_THREADS=1)
        with house.store.write() as session:
            spec = {"target": str(run), "form": form}
            job_id = jobs.submit(session, kind="export", name="out", spec=spec, lane="gpu").id
        done = house.finish(job_id, seconds=120)
        assert (done.state, done.reason) == ("failed", "disk_full"), house.report()
        assert house.attempts(job_id)[0].exit_code == 73
        assert list(exports.iterdir()) == [] and shutil.disk_usage(exports).free > 0.9 * megabytes * 2**20
        assert worker.lives()
        house.check()


@pytest.mark.timeout(600)
def test_39_an_export_killed_on_its_way_is_never_seen_half(studio: Studio, house: House) -> None:
    run = studio.add_run("tiny", lambda folder: adapter_of(studio.bases["tiny"], folder))
    with house.store.write() as session:
        spec = {"target": str(run), "form": "adapter"}
        options = jobs.SubmitOptions(max_attempts=10)
        job_id = jobs.submit(session, kind="export", name="out", spec=spec, lane="gpu", options=options).id
    house.start(ATELIER_FAULT_REAL=1, ATELIER_TORCH_THREADS=1, ATELIER_BACKOFF_S=0.1)
    phases = ["export_reference", "export_writing", "export_checking"]
    for turn, phase in enumerate(phases, start=1):
        house.wait(lambda turn=turn, phase=phase: _is_in(house, job_id, turn, phase), 120, phase)
        time.sleep(house.random.uniform(0.0, 0.1))
        held = house.job(job_id)
        assert held.pid is not None and held.state == "running"
        os.kill(held.pid, signal.SIGKILL)
        house.wait(lambda turn=turn: house.job(job_id).token > turn, 60, "the next try")
        assert [path.name for path in house.home.exports.iterdir() if not path.name.startswith(".tmp-")] == []
    done = house.finish(job_id, seconds=120)
    assert done.state == "succeeded", house.report()
    files = {path.name for path in Path(done.result["path"]).iterdir()}
    assert files == {one["name"] for one in done.result["files"]}


def _is_in(house: House, job_id: int, token: int, phase: str) -> bool:
    found = house.job(job_id)
    return found.state == "running" and found.token == token and found.phase == phase
