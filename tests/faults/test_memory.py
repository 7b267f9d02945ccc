"""Row 18: memory runs out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.faults.house import House
from tests.faults.test_processes import undisturbed

GROUPS = Path("/sys/fs/cgroup/memory")
LIMIT = 400 * 2**20


def test_18_memory_that_runs_out_under_a_limit_fails_once_with_its_name(house: House) -> None:
    job_id = house.submit(steps=40, fault="memory", fault_at=5, always=True, limit_bytes=2**30)
    worker = house.start()
    done = house.finish(job_id)
    assert (done.state, done.reason) == ("failed", "out_of_memory"), house.report()
    assert [one.exit_code for one in house.attempts(job_id)] == [72], "never tried again unchanged"
    assert worker.lives()


def test_18_a_trainer_that_the_kernel_ends_for_memory_fails_once_and_the_worker_lives(house: House) -> None:
    group = GROUPS / f"atelier-{os.getpid()}"
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(LIMIT))
    except OSError as error:
        pytest.skip(f"no group that limits memory can be made here: {error.strerror}")

    def enter() -> None:
        (group / "cgroup.procs").write_text(str(os.getpid()))

    try:
        worker = house.start(prepare=enter)
        job_id = house.submit(steps=40, fault="memory", fault_at=5, always=True)
        done = house.finish(job_id)
        assert (done.state, done.reason) == ("failed", "out_of_memory"), house.report()
        assert len(house.attempts(job_id)) == 1, "no hot loop of tries"
        assert worker.lives()
        other = house.submit(steps=20)
        house.finish(other)
        undisturbed(house, other, 20)
        worker.stop()
    finally:
        for pid in (group / "cgroup.procs").read_text().split():
            (group.parent / "cgroup.procs").write_text(pid)
        group.rmdir()
