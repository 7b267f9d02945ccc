"""Each invariant can fail: a store or a folder that breaks it, and it alone says so."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.runtime import checkpoints as files
from storage import checkpoints, jobs, metrics
from storage.checkpoints import NewCheckpoint
from storage.jobs import Holder, Settlement
from storage.metrics import Point
from storage.states import State
from tests.faults.house import House
from tests.faults.invariants import INVARIANTS, check_invariants, findings

pytestmark = pytest.mark.sample


@pytest.fixture
def whole(bare_house: House) -> House:
    """A run with a curve and a checkpoint that ended as it should; nothing is wrong with it."""
    house = bare_house
    house.submit(key="click")
    with house.store.write() as session:
        taken = jobs.claim(session, Holder("w", "h", "b"), lanes=["gpu"], lease_s=60)
        assert taken is not None
        claim = taken[0]
        metrics.append(session, claim, [Point("loss", step, 1.0) for step in (1, 2, 3)])
    parent = house.home.runs / str(claim.job_id) / "1"
    folder, manifest = files.save(parent, lambda made: _write(made), step=3, token=1, spec={})
    new = NewCheckpoint(3, str(folder), manifest.sha256, manifest.num_bytes, "/m", "none", "float32", is_adapter=True)
    with house.store.write() as session:
        checkpoints.add(session, claim, new)
        jobs.settle(session, claim, Settlement(State.SUCCEEDED, reason="done"))
    (house.root / "steps.log").write_text("here gpu 1 1 1 7 0.1\nhere gpu 1 1 2 7 0.2\n")
    check_invariants(house.store, house.home)
    return house


def _write(folder: Path) -> None:
    (folder / "weights.hex").write_text("ab")


def broken(house: House) -> set[str]:
    """The names of the invariants that say that something is wrong."""
    return {name for name in INVARIANTS if findings(name, house.store, house.home)}


def sql(house: House, *statements: str) -> None:
    """Change the store behind its back, its own rules switched off."""
    connection = sqlite3.connect(house.home.root / "store.db")
    connection.execute("PRAGMA ignore_check_constraints = ON")
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


def a_running_job_without_an_owner(house: House) -> None:
    sql(house, "UPDATE job SET owner = 'w' WHERE id = 1")


def an_attempt_that_never_ended(house: House) -> None:
    sql(house, "UPDATE attempt SET ended_at = NULL, outcome = NULL")


def two_attempts_that_train_by_turns(house: House) -> None:
    (house.root / "steps.log").write_text("h cpu 1 1 1 7 0\nh cpu 1 2 1 8 0\nh cpu 1 1 2 7 0\n")


def two_heavy_jobs_by_turns(house: House) -> None:
    (house.root / "steps.log").write_text("h gpu 1 1 1 7 0\nh gpu 2 1 1 8 0\nh gpu 1 1 2 7 0\n")


def a_submit_that_is_gone(house: House) -> None:
    house.acknowledge(77)


def a_key_that_is_gone(house: House) -> None:
    sql(house, "UPDATE job SET idempotency_key = NULL")


def an_old_point_after_a_new_one(house: House) -> None:
    sql(house, "UPDATE metric SET token = 0 WHERE step = 3")


def a_point_of_a_ghost(house: House) -> None:
    sql(house, "UPDATE metric SET token = 9 WHERE step = 3")


def a_flipped_bit(house: House) -> None:
    (path,) = house.home.runs.glob("1/1/checkpoint-3/weights.hex")
    path.write_text("ac")


def a_checkpoint_that_is_another(house: House) -> None:
    sql(house, "UPDATE checkpoint SET manifest_sha = 'other'")


def a_job_that_nobody_takes(house: House) -> None:
    house.submit()


def an_event_that_is_missing(house: House) -> None:
    sql(house, "DELETE FROM job_event WHERE kind = 'settled'")


def a_move_that_is_none(house: House) -> None:
    made = "INSERT INTO job_event (job_id, token, at, kind, data) VALUES (1, 1, 0, '{}', '{}')"
    sql(house, made.format("retried", '{"state": "queued", "held": false}'))
    sql(house, made.format("settled", '{"state": "succeeded", "held": false}'))


def an_orphaned_row(house: House) -> None:
    sql(house, "UPDATE metric SET job_id = 99 WHERE step = 3")


def a_damaged_page(house: House) -> None:
    sql(house, "PRAGMA wal_checkpoint(TRUNCATE)")
    connection = sqlite3.connect(house.home.root / "store.db")
    (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name LIKE 'ix_job_event%'").fetchone()
    (size,) = connection.execute("PRAGMA page_size").fetchone()
    connection.close()
    house.store.dispose()
    with (house.home.root / "store.db").open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\x0a" + bytes(size - 1))


def a_save_that_was_killed(house: House) -> None:
    (house.home.runs / "1" / "1" / ".tmp-6-1").mkdir()


def an_upload_of_last_week(house: House) -> None:
    path = house.home.staging / "old"
    path.touch()
    os.utime(path, (1, 1))


@pytest.mark.parametrize(
    ("name", "breaking"),
    [
        ("I1", a_running_job_without_an_owner),
        ("I1", an_attempt_that_never_ended),
        ("I2", two_attempts_that_train_by_turns),
        ("I2", two_heavy_jobs_by_turns),
        ("I3", a_submit_that_is_gone),
        ("I3", a_key_that_is_gone),
        ("I4", an_old_point_after_a_new_one),
        ("I4", a_point_of_a_ghost),
        ("I5", a_flipped_bit),
        ("I5", a_checkpoint_that_is_another),
        ("I6", a_job_that_nobody_takes),
        ("I7", an_event_that_is_missing),
        ("I7", a_move_that_is_none),
        ("I8", an_orphaned_row),
        ("I8", a_damaged_page),
        ("I9", a_save_that_was_killed),
        ("I9", an_upload_of_last_week),
    ],
)
def test_a_broken_house_is_noticed(whole: House, name: str, breaking: Callable[[House], None]) -> None:
    breaking(whole)
    assert name in broken(whole)
    with pytest.raises(AssertionError, match=name):
        check_invariants(whole.store, whole.home)


def test_two_living_trainers_of_one_job_are_noticed(whole: House) -> None:
    command = [sys.executable, "-c", "import time; time.sleep(60)", "tests.faults.dryrun", "1"]
    both = [subprocess.Popen([*command, token], env=whole.environment) for token in ("1", "2")]
    try:
        whole.wait(lambda: "I2" in broken(whole), 10, "two trainers seen")
    finally:
        for one in both:
            one.kill()
            one.wait()
    assert broken(whole) == set()
