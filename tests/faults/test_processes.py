"""Rows 2, 4, 5, 22 and 27 to 31: workers and trainers that are killed, stopped, started twice, told to go, or hang."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from engine.runtime import locks
from engine.runtime.crashing import CRASH_POINTS
from engine.runtime.machine import boot_id, host
from engine.runtime.rescue import rescue_lost
from engine.runtime.settings import Settings
from engine.specs.living import is_alive, start_time
from storage import jobs
from storage.job_values import job as job_table
from storage.jobs import Holder
from storage.states import FINAL
from tests.faults.dryrun import curve_to, weights_after
from tests.faults.house import BACKOFF_S, GRACE_S, LEASE_S, House

QUICK = Settings(lease_s=LEASE_S, grace_s=GRACE_S, backoff_s=BACKOFF_S)
KILLS = 100


def undisturbed(house: House, job_id: int, steps: int) -> None:
    """The run ended with the weights and the curve of one that nothing disturbed."""
    done = house.job(job_id)
    assert (done.state, (done.result or {}).get("weights")) == ("succeeded", weights_after(steps)), house.report()
    assert house.curve(job_id) == curve_to(steps)


def lost_steps(house: House, job_id: int) -> list[int]:
    """How many steps each attempt did that the next one had to do again."""
    reached: dict[int, int] = {}
    for _, _, its_job, token, step, *_ in house.steps():
        if int(its_job) == job_id:
            reached[int(token)] = int(step)
    resumed = {one.token: one.resumed_from_step for one in house.attempts(job_id)}
    return [reached[t] - (resumed.get(t + 1) or 0) for t in reached if t + 1 in reached]


@pytest.mark.parametrize("point", [point for point in CRASH_POINTS if not point.startswith("merge")])
def test_02_a_crash_at_a_named_point_loses_at_most_one_interval(house: House, point: str) -> None:
    job_id = house.submit(steps=30, save_every=10)
    first = house.start(ATELIER_CRASH_AT=point)

    def has_crashed() -> bool:
        return not first.lives() or "killed" in house.outcomes(job_id)

    house.wait(has_crashed, 30, f"a crash at {point}")
    if first.lives():
        first.kill()
    house.start()
    house.finish(job_id)
    undisturbed(house, job_id, 30)
    assert all(lost <= 11 for lost in lost_steps(house, job_id)), "one interval, and the step that was under way"


@pytest.mark.sample
def test_02_a_killed_worker_is_followed_by_the_next(house: House) -> None:
    job_id = house.submit(steps=60, save_every=10)
    first = house.start()
    house.reach(job_id, 15)
    first.kill()
    house.start()
    house.finish(job_id)
    undisturbed(house, job_id, 60)
    assert house.outcomes(job_id)[-1] == "succeeded"
    assert max(lost_steps(house, job_id)) <= 11


def test_02_a_hundred_random_kills_of_the_worker_lose_no_job(each_house: House) -> None:
    house = each_house
    kills = KILLS if house.store.url.get_backend_name() == "sqlite" else KILLS // 4
    ids = [house.submit(steps=80, save_every=5, attempts=1000) for _ in range(3)]
    ids += [house.submit(kind="import", steps=20, save_every=5, attempts=1000) for _ in range(4)]
    for _ in range(kills):
        if all(house.job(one).state in FINAL for one in ids):
            ids.append(house.submit(steps=80, save_every=5, attempts=1000))
        worker = house.start(ATELIER_BACKOFF_S=0)  # a job that waits is not hit
        time.sleep(house.random.uniform(0.2, 1.6))
        worker.kill()
    house.start(ATELIER_BACKOFF_S=0)
    for job_id in ids:
        house.finish(job_id, seconds=180)
        undisturbed(house, job_id, house.job(job_id).spec["steps"])


def test_03_a_dryrun_killed_at_random_ends_with_the_same_weights(house: House) -> None:
    house.start()
    for _ in range(10):
        job_id = house.submit(steps=40, save_every=4, attempts=50, bytes=2_000_000)
        for token in (1, 2):
            kill_attempt(house, job_id, token)
        house.finish(job_id)
        undisturbed(house, job_id, 40)
        assert all(lost <= 5 for lost in lost_steps(house, job_id))


def kill_attempt(house: House, job_id: int, token: int) -> None:
    """Kill the trainer of an attempt at a random moment of its life; none if the run was quicker."""

    def lives_or_over() -> bool:
        found = house.job(job_id)
        return found.state in FINAL or (found.token == token and found.pid is not None)

    house.wait(lives_or_over, 30, f"attempt {token}")
    time.sleep(house.random.uniform(0.0, 1.6))
    found = house.job(job_id)
    if found.pid is not None and found.token == token:
        with contextlib.suppress(ProcessLookupError):
            os.kill(found.pid, signal.SIGKILL)


@pytest.mark.sample
def test_04_worker_and_trainer_killed_together_go_on_after_a_new_boot(house: House) -> None:
    job_id = house.submit(steps=60, save_every=10)
    first = house.start()
    lost = house.reach(job_id, 15)
    first.kill()
    os.killpg(lost.pid, signal.SIGKILL)
    house.start(ATELIER_FAULT_BOOT="another-boot")
    house.finish(job_id)
    undisturbed(house, job_id, 60)
    assert house.outcomes(job_id) == ["lost", "succeeded"]


@pytest.mark.parametrize("frozen", ["worker", "trainer", "both"])
def test_05_a_stopped_worker_is_fenced(each_house: House, frozen: str) -> None:
    house = each_house
    job_id = house.submit(steps=400, save_every=20)
    first = house.start(ATELIER_HOST_NAME="host-a")
    held = house.reach(job_id, 25)
    trainer = psutil.Process(held.pid)
    if frozen in ("worker", "both"):
        first.signal(signal.SIGSTOP)
    if frozen in ("trainer", "both"):
        trainer.suspend()
    house.start(ATELIER_HOST_NAME="host-b")
    if frozen == "trainer":  # its worker lives and renews: nobody may take the job
        time.sleep(3 * LEASE_S)
        assert (house.job(job_id).token, house.job(job_id).owner_host) == (1, "host-a")
        trainer.resume()
    else:
        house.wait(lambda: house.job(job_id).token > 1, 4 * LEASE_S + 20, "the second host takes it")
        trainer.resume()
        gone = LEASE_S + GRACE_S
        house.wait(lambda: not is_alive(held.pid, held.pid_start), gone, "the fenced trainer ends by itself")
        first.signal(signal.SIGCONT)
    house.finish(job_id)
    undisturbed(house, job_id, 400)
    assert first.lives(), "a fenced worker goes on with other work"
    tokens = [int(line[3]) for line in house.steps()]
    assert frozen == "trainer" or house.attempts(job_id)[0].outcome == "lost"
    assert house.job(job_id).token == max(tokens)


def test_22_a_trainer_that_hangs_is_found_its_stacks_kept_and_it_is_ended(house: House) -> None:
    job_id = house.submit(steps=40, fault="hang", fault_at=12, always=True)
    house.start(ATELIER_STALL_S=4)
    done = house.finish(job_id, seconds=60)
    assert (done.state, done.reason) == ("failed", "stalled"), house.report()
    assert "_hang" in house.home.log(job_id).read_text(), "the stack names where it stood"
    assert house.outcomes(job_id) == ["failed"]
    assert not house.children()


@pytest.mark.sample
def test_27_a_worker_told_to_go_saves_and_the_next_one_resumes(house: House) -> None:
    job_id, waiting = house.submit(steps=100, save_every=50), house.submit(steps=5)
    first = house.start()
    house.reach(job_id, 10)
    began = time.monotonic()
    assert first.stop() == 0
    assert time.monotonic() - began < GRACE_S + 2
    here = house.job(job_id)
    assert (here.state, here.held, here.deaths, house.outcomes(job_id)) == ("queued", False, 0, ["stopped"])
    assert house.attempts(job_id)[0].exit_code == 75
    assert house.job(waiting).attempt == 0, "nothing new was claimed"
    house.start()
    house.finish(job_id)
    undisturbed(house, job_id, 100)
    assert max(lost_steps(house, job_id)) <= 1


def test_28_a_storm_of_signals_ends_cleanly(house: House) -> None:
    job_id = house.submit(steps=200, save_every=50)
    first = house.start()
    house.reach(job_id, 10)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
        first.signal(number)
        time.sleep(0.1)
    assert first.process.wait(GRACE_S + 5) == 0
    assert not house.children()
    assert house.job(job_id).state == "queued"
    house.start()
    house.finish(job_id)
    undisturbed(house, job_id, 200)


@pytest.mark.parametrize("who", ["trainer", "worker", "both"])
def test_29_no_grandchild_survives_its_job(house: House, who: str) -> None:
    job_id = house.submit(steps=100, fault="grandchild", fault_at=5)
    first = house.start()
    held = house.reach(job_id, 10)
    (grandchild,) = psutil.Process(held.pid).children()
    if who in ("worker", "both"):
        first.kill()
    if who in ("trainer", "both"):
        os.kill(held.pid, signal.SIGKILL)
    if not first.lives():
        house.start()
    house.finish(job_id)
    undisturbed(house, job_id, 100)
    house.wait(lambda: not grandchild.is_running() or grandchild.status() == psutil.STATUS_ZOMBIE, 10, "its end")


@pytest.mark.parametrize("is_ours", [True, False])
def test_30_a_rescue_never_kills_a_stranger(house: House, is_ours: bool) -> None:
    """The job's lock is held by something; only the very process that was started then may be killed for it."""
    job_id = house.submit(steps=5)
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
    started = start_time(other.pid)
    assert started is not None
    holder = Holder(f"{host()}:1", host(), boot_id())
    with house.store.write() as session:
        taken = jobs.claim(session, holder, lanes=["gpu"], lease_s=0.0)
        assert taken is not None
        jobs.started(session, taken[0], pid=other.pid, pid_start=started if is_ours else started - 60)
    lock = locks.take(house.home.run_lock(job_id))
    assert lock is not None
    with house.store.write() as session:  # as if its lease had run out long ago
        session.execute(job_table.update().values(lease_until=job_table.c.lease_until - 100))
    rescue_lost(house.store, house.home, QUICK)
    killed = _ends(other)
    other.kill()
    other.wait()
    os.close(lock)
    assert killed == is_ours
    assert house.job(job_id).state == "running", "not taken back while its lock is held"


def _ends(process: subprocess.Popen[bytes]) -> bool:
    try:
        process.wait(1.0)
    except subprocess.TimeoutExpired:
        return False
    return True


def test_31_of_three_workers_of_a_home_one_works(house: House) -> None:
    job_id = house.submit(steps=60)
    three = [house.start() for _ in range(3)]
    house.finish(job_id)
    living = [one for one in three if one.lives()]
    assert len(living) == 1
    assert [one.process.returncode for one in three if one not in living] == [64, 64]
    undisturbed(house, job_id, 60)
