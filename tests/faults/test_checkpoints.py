"""Rows 15 to 17: the newest checkpoint is broken, all of them are, or a save was killed on its last steps."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from engine.files import write_json
from engine.runtime import checkpoints as files
from engine.runtime.answering import check_checkpoint
from engine.runtime.child import Context
from engine.runtime.trainer import Run
from engine.specs.problem import ProblemError
from storage import checkpoints, jobs
from storage.checkpoints import Checkpoint, NewCheckpoint
from storage.jobs import Holder, Job
from tests.faults.dryrun import BEGIN, KEPT, weights_after
from tests.faults.house import House
from tests.faults.test_processes import undisturbed

SPEC = {"steps": 30, "save_every": 10}
WEIGHTS = "weights.hex"
SAVED = "checkpoint-*[0-9]"


def cut(folder: Path) -> None:
    (folder / WEIGHTS).write_text((folder / WEIGHTS).read_text()[:-1])


def emptied(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(b"")


def flipped(folder: Path) -> None:
    data = bytearray((folder / WEIGHTS).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / WEIGHTS).write_bytes(bytes(data))


def zeroed(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(bytes((folder / WEIGHTS).stat().st_size))


def without_a_file(folder: Path) -> None:
    (folder / "ballast.bin").unlink()


def with_a_file_more(folder: Path) -> None:
    (folder / "extra.pt").write_bytes(b"x")


def with_another_name(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / "other.hex")


def without_a_manifest(folder: Path) -> None:
    (folder / files.MANIFEST).unlink()


def with_an_empty_manifest(folder: Path) -> None:
    (folder / files.MANIFEST).write_bytes(b"")


def with_half_a_manifest(folder: Path) -> None:
    text = (folder / files.MANIFEST).read_text()
    (folder / files.MANIFEST).write_text(text[: len(text) // 2])


def with_a_manifest_of_another_kind(folder: Path) -> None:
    (folder / files.MANIFEST).write_text('["step", 20]')


def of_another_spec(folder: Path) -> None:
    known = json.loads((folder / files.MANIFEST).read_text())
    write_json(folder / files.MANIFEST, {**known, "spec_sha": files.spec_sha({"steps": 31})})


def gone(folder: Path) -> None:
    shutil.rmtree(folder)


BREAKS = [
    cut, emptied, flipped, zeroed, without_a_file, with_a_file_more, with_another_name, without_a_manifest,
    with_an_empty_manifest, with_half_a_manifest, with_a_manifest_of_another_kind, of_another_spec, gone,
]  # fmt: skip


def at_rest_after(house: House) -> tuple[Context, Run]:
    """A run of two attempts whose first saved steps 10 and 20 and died; the second is about to look for them."""
    job_id = house.submit(**SPEC)
    for token in (1, 2):
        with house.store.write() as session:
            taken = jobs.claim(session, Holder("w", "h", "b"), lanes=["gpu"], lease_s=600)
        assert taken is not None
        claim, _job = taken
        if token == 1:
            for step in (10, 20):
                _save(house, claim, step)
            with house.store.write() as session:
                jobs.settle(session, claim, jobs.Settlement("requeue", reason="killed"))
    context = Context(house.home, house.store, house.job(job_id), claim)
    return context, Run(context, KEPT)  # type: ignore[arg-type]


class Beats:
    """Counts how often a run said that it moves."""

    def __init__(self) -> None:
        self.number = 0

    def beat(self) -> None:
        self.number += 1

    def flush(self) -> None:
        """Nothing waits to be written."""


def _save(house: House, claim: jobs.Claim, step: int) -> None:
    def write(folder: Path) -> None:
        (folder / WEIGHTS).write_text(weights_after(step))
        (folder / "ballast.bin").write_bytes(b"ballast")

    parent = house.home.runs / str(claim.job_id) / str(claim.token)
    spec = house.job(claim.job_id).spec
    folder, manifest = files.save(parent, write, step=step, token=claim.token, spec=spec)
    facts = (step, str(folder), manifest.sha256, manifest.num_bytes, "/m", "none", "float32")
    with house.store.write() as session:
        checkpoints.add(session, claim, NewCheckpoint(*facts, is_adapter=True))


@pytest.mark.sample
@pytest.mark.parametrize("breaking", BREAKS)
def test_15_a_broken_newest_checkpoint_is_passed_over_with_a_word(
    bare_house: House, breaking: Callable[[Path], None]
) -> None:
    house = bare_house
    context, run = at_rest_after(house)
    newest = house.home.runs / str(context.job.id) / "1" / "checkpoint-20"
    breaking(newest)
    reporter = Beats()
    found = run._newest_good(BEGIN, reporter)
    assert reporter.number > 0, "a long proof is no hang"
    assert found is not None and found.name == "checkpoint-10"
    (said,) = house.events(context.job.id, "checkpoint_skipped")
    assert said.data["step"] == 20 and said.data["why"]
    if breaking is not of_another_spec:  # whole, only not this run's: chat and export do not resume from it
        with pytest.raises(ProblemError, match="model_checkpoint_broken"):
            check_checkpoint(newest, deep=True)


@pytest.mark.sample
def test_22_a_long_save_is_no_hang(bare_house: House) -> None:
    _context, run = at_rest_after(bare_house)
    reporter = Beats()
    save = run._saver(BEGIN, SimpleNamespace(evaluated={}), reporter)
    save(30, lambda folder: (folder / WEIGHTS).write_text(weights_after(30)) and None)
    assert reporter.number > 0


def stopped_between_saves(house: House, held: Job) -> Checkpoint:
    """Halt a run where its newest checkpoint in place is listed too; return that one."""
    while True:
        os.kill(held.pid, signal.SIGSTOP)
        newest = house.checkpoints(held.id)[-1]
        if max(int(one.name.split("-")[1]) for one in Path(newest.path).parent.glob(SAVED)) == newest.step:
            return newest
        os.kill(held.pid, signal.SIGCONT)
        time.sleep(0.02)


@pytest.mark.parametrize("breaking", [flipped, without_a_manifest, gone])
def test_15_a_killed_run_goes_on_from_the_checkpoint_before(house: House, breaking: Callable[[Path], None]) -> None:
    job_id = house.submit(steps=60, save_every=10)
    house.start()
    held = house.reach(job_id, 35)
    newest = stopped_between_saves(house, held)
    breaking(Path(newest.path))
    os.kill(held.pid, signal.SIGKILL)
    house.finish(job_id)
    undisturbed(house, job_id, 60)
    assert house.attempts(job_id)[1].resumed_from_step == newest.step - 10
    assert [one.data["step"] for one in house.events(job_id, "checkpoint_skipped")] == [newest.step]


def test_16_with_every_checkpoint_broken_a_run_does_not_begin_anew_in_silence(bare_house: House) -> None:
    house = bare_house
    job_id = house.submit(steps=200, save_every=10)
    house.start()
    held = house.reach(job_id, 35)
    stopped_between_saves(house, held)
    for row in house.checkpoints(job_id):
        flipped(Path(row.path))
    os.kill(held.pid, signal.SIGKILL)
    done = house.finish(job_id)
    assert done.state == "failed", "a person decides whether it begins at 0"
    assert done.reason == "checkpoints_broken"
    again = [line for line in house.steps() if line[3] == "2"]
    assert again == [], "no step was done anew"
    assert len(house.events(job_id, "checkpoint_skipped")) >= 3
    house.check(without=["I5"])


@pytest.mark.parametrize(
    ("point", "expected"),
    [("checkpoint_written", 10), ("checkpoint_before_rename", 10), ("checkpoint_after_rename", 20)],
)
def test_17_a_save_killed_at_its_end_is_taken_up_or_swept(house: House, point: str, expected: int) -> None:
    """The second save dies: before the rename nothing of it counts, after it the folder is whole and is listed."""
    once = house.root / "once"
    job_id = house.submit(steps=40, save_every=10)
    once.touch()  # lets the first save pass
    first = house.start(ATELIER_CRASH_AT=point, ATELIER_CRASH_ONCE=once)
    house.wait(lambda: len(house.checkpoints(job_id)) == 1, 30, "the first save")
    once.unlink()
    house.wait(lambda: house.job(job_id).token == 2, 30, "the second save died and the next attempt began")
    house.finish(job_id)
    undisturbed(house, job_id, 40)
    assert house.attempts(job_id)[1].resumed_from_step in (expected, expected + 10), house.report()
    assert first.lives()
    listed = {Path(row.path) for row in house.checkpoints(job_id)}
    assert set(house.home.runs.glob(f"{job_id}/*/checkpoint-*")) == listed, "no folder without its row"
