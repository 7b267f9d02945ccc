"""Rows 6 to 8, 12 to 14 and 25: races for the queue, a store that is held, taken away or restarted, clocks that jump."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError

from engine.runtime.worker import NO_STORE
from storage import jobs, settings
from storage.database import open_store
from storage.errors import Conflict, StoreError
from storage.jobs import Holder, Settlement
from storage.metrics import metric
from storage.states import FINAL, State
from tests.faults.altered import CLOCK_KEY
from tests.faults.conftest import postgres_of
from tests.faults.house import LEASE_S, ROOT, House
from tests.faults.test_disk import small_disk
from tests.faults.test_processes import undisturbed
from tests.storage.test_store_races import CLAIM_ALL

CLIENTS, CLIENT_SECONDS = 20, 60.0
NUM_JOBS, NUM_WORKERS = 1000, 8
ROUNDS = 500
COUNT_POINTS = select(func.count()).select_from(metric)


def test_06_eight_workers_claim_a_thousand_jobs_once_each(each_house: House) -> None:
    house = each_house
    with house.store.write() as session:
        for number in range(NUM_JOBS):
            jobs.submit(session, kind="train", name=f"run {number}", spec={}, lane="gpu")
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    workers = [
        subprocess.Popen([sys.executable, "-c", CLAIM_ALL, house.home.store_url, f"w{n}"], cwd=ROOT, text=True, **pipes)
        for n in range(NUM_WORKERS)
    ]
    time.sleep(3.0)  # all of them stand at the line
    for worker in workers:
        worker.stdin.write("go\n")
        worker.stdin.flush()
    claimed: list[int] = []
    for worker in workers:
        output, errors = worker.communicate(timeout=240)
        assert worker.returncode == 0, errors
        claimed += [job_id for job_id, _token in json.loads(output)]
    assert Counter(claimed) == Counter(range(1, NUM_JOBS + 1))


def test_07_twenty_clients_click_at_random_and_every_rule_holds(each_house: House) -> None:
    house = each_house
    house.start()
    ending = time.monotonic() + CLIENT_SECONDS
    surprises: list[BaseException] = []

    def click(number: int) -> None:
        draw, own = random.Random(f"{house.seed}-{number}"), []
        wishes = [jobs.cancel, jobs.retry, jobs.pause, jobs.resume, jobs.hold, jobs.unhold, jobs.stop_and_keep]
        while time.monotonic() < ending:
            try:
                if not own or draw.random() < 0.2:
                    key = f"{number}-{len(own)}"
                    kind = draw.choice(["train", "import"])
                    own += {house.submit(kind=kind, key=key, steps=draw.randint(1, 15)) for _ in range(2)}
                else:
                    house.ask(draw.choice(wishes), draw.choice(own))
            except Conflict:
                continue
            except BaseException as error:  # anything else is a finding
                surprises.append(error)
                return
            finally:
                time.sleep(draw.uniform(0.1, 0.6))

    clients = [threading.Thread(target=click, args=(number,)) for number in range(CLIENTS)]
    for one in clients:
        one.start()
    for one in clients:
        one.join()
    assert surprises == []
    for job in house.jobs():
        if job.state not in FINAL:  # nobody is left who would release or retry: let the queue run dry
            with contextlib.suppress(Conflict):  # it ended just now
                house.ask(jobs.cancel, job.id)
    house.rest(seconds=120)
    assert len(house.jobs()) > CLIENTS


def test_08_a_cancel_that_races_the_end_leaves_one_final_state(each_house: House) -> None:
    house = each_house
    rounds = ROUNDS if house.store.url.get_backend_name() == "sqlite" else ROUNDS // 2
    ends = (Settlement(State.SUCCEEDED), Settlement("requeue", counts=False), Settlement(State.FAILED, reason="x"))
    for number in range(rounds):
        job_id = house.submit(steps=1)
        with house.store.write() as session:
            taken = jobs.claim(session, Holder("w", "h", "b"), lanes=["gpu"], lease_s=600)
        assert taken is not None
        barrier = threading.Barrier(2)
        threads = [
            threading.Thread(target=_settle, args=(house, taken[0], ends[number % 3], barrier)),
            threading.Thread(target=_cancel, args=(house, job_id, barrier)),
        ]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
        found = house.job(job_id)
        assert found.state in FINAL, "a requeue that was cancelled in time, or just after, is cancelled"
        finals = [one.data["state"] for one in house.events(job_id) if one.data.get("state") in FINAL]
        assert (len(finals), finals[-1]) == (1, found.state)


def _settle(house: House, claim: Any, end: Settlement, barrier: threading.Barrier) -> None:
    barrier.wait()
    with house.store.write() as session:
        jobs.settle(session, claim, end)


def _cancel(house: House, job_id: int, barrier: threading.Barrier) -> None:
    barrier.wait()
    try:
        house.ask(jobs.cancel, job_id)
    except Conflict as error:
        assert error.code == "job_finished"


def wal_bytes(house: House) -> int:
    path = house.home.root / "store.db-wal"
    return path.stat().st_size if path.exists() else 0


def test_12_a_long_reader_stops_nobody_and_the_log_stays_bounded(each_house: House) -> None:
    house = each_house
    house.start()
    job_id = house.submit(steps=300, save_every=50)
    house.reach(job_id, 5)
    with house.store.read() as session:
        before = session.execute(COUNT_POINTS).scalar()
        time.sleep(3 * LEASE_S)
        reached = house.job(job_id)
        assert reached.token == 1 and (reached.progress_step or 0) > 100, "neither leases nor steps wait for a reader"
        assert session.execute(COUNT_POINTS).scalar() == before, "and it reads one moment all the time"
    house.finish(job_id)
    undisturbed(house, job_id, 300)
    high = wal_bytes(house)
    for _ in range(2):
        house.finish(house.submit(steps=300, save_every=50))
    assert wal_bytes(house) <= high + 4 * 2**20, "once the reader has gone, the log is written from its start again"


def test_12_a_writer_that_holds_the_lock_for_eight_seconds_costs_no_attempt(each_house: House) -> None:
    house = each_house
    house.start()
    job_id = house.submit(steps=400, save_every=50)
    house.reach(job_id, 5)
    with house.store.write() as session:  # on SQLite, that alone keeps every other writer out
        if house.store.file is None:
            session.execute(text("LOCK TABLE job IN EXCLUSIVE MODE"))
        reached = house.job(job_id).progress_step
        if house.store.file is None:  # a writer that only stands still is dropped by the server sooner
            session.execute(text("SELECT pg_sleep(8)"))
        else:
            time.sleep(8.0)
        assert house.job(job_id).progress_step == reached, "nobody else writes meanwhile"
    house.finish(job_id)
    undisturbed(house, job_id, 400)
    assert house.outcomes(job_id) == ["succeeded"]


@pytest.mark.parametrize("what", ["text", "another database", "a folder", "cut short"])
def test_13_a_file_that_is_no_store_is_refused_and_left_alone(bare_house: House, what: str) -> None:
    house = bare_house
    house.store.dispose()
    path = house.home.root / "store.db"
    _spoil(path, what)
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(StoreError):
        open_store(house.home.store_url)
    worker = house.start()
    assert worker.process.wait(20) not in (0, -9)
    assert "store" in worker.said()
    assert before is None or path.read_bytes() == before


def _spoil(path: Path, what: str) -> None:
    for other in path.parent.glob("store.db-*"):
        other.unlink()
    whole = path.read_bytes()
    path.unlink()
    if what == "text":
        path.write_text("This is no database.\n" * 500)
    elif what == "a folder":
        path.mkdir()
    elif what == "cut short":
        path.write_bytes(whole[: len(whole) // 3])
    else:
        connection = sqlite3.connect(path)
        connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
        connection.execute("INSERT INTO alembic_version VALUES ('other')")
        connection.commit()
        connection.close()


@pytest.mark.parametrize("what", ["home", "store"])
def test_13_a_store_that_cannot_be_written_is_refused_and_serves_again_once_it_can(
    tmp_path: Path, seed: int, what: str
) -> None:
    with small_disk(tmp_path / "house" / what) as disk:
        house = House(tmp_path / "house", seed=seed, store_url=f"sqlite:///{disk / 'store.db'}")
        try:
            job_id = house.submit(steps=20)
            house.store.dispose()
            before = (disk / "store.db").read_bytes()
            subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
            with pytest.raises(StoreError) as refused:
                open_store(house.home.store_url)
            assert (refused.value.code, refused.value.values["url"]) == ("store_unreadable", house.home.store_url)
            worker = house.start()
            assert worker.process.wait(20) == NO_STORE
            assert "Traceback" not in worker.said(), worker.said()
            assert ("Read-only file system" if what == "home" else house.home.store_url) in worker.said()
            assert (disk / "store.db").read_bytes() == before
            subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
            house.start()
            house.finish(job_id)
            undisturbed(house, job_id, 20)
            house.check()
        finally:
            house.close()


def test_13_a_store_deleted_under_a_worker_is_not_silently_made_anew(bare_house: House) -> None:
    house = bare_house
    job_id = house.submit(steps=2000)
    worker = house.start()
    house.reach(job_id, 5)
    kept = house.root / "kept.db"
    with house.store.write():  # nobody writes while it is moved
        for name in ("store.db", "store.db-wal", "store.db-shm"):
            shutil.move(house.home.root / name, house.root / name)
    shutil.move(house.root / "store.db", kept)
    house.wait(lambda: not house.children() or not worker.lives(), 4 * LEASE_S + 30, "worker and trainer notice it")
    made = house.home.root / "store.db"
    assert not made.exists() or made.stat().st_size == 0, "no new store in the place of the old one"
    house.wait(lambda: "store" in worker.said(), LEASE_S + 10, "the worker says so")


def test_14_a_server_that_drops_connections_costs_no_job(
    request: pytest.FixtureRequest, tmp_path: Path, seed: int
) -> None:
    server = postgres_of(request)
    with server.database() as url:
        house = House(tmp_path / "house", seed=seed, store_url=url)
        database = house.store.url.database
        try:
            house.start()
            ids = [house.submit(steps=150, save_every=20, attempts=50) for _ in range(2)]
            ends = time.monotonic() + 20
            while time.monotonic() < ends and house.job(ids[-1]).state not in FINAL:
                time.sleep(house.random.uniform(0.1, 0.8))
                server.terminate(database)
            for job_id in ids:
                _patiently(house, job_id)
                undisturbed(house, job_id, 150)
            house.check()
        finally:
            house.close()


def test_14_a_server_that_crashes_and_comes_back_costs_no_job(
    request: pytest.FixtureRequest, tmp_path: Path, seed: int
) -> None:
    server = postgres_of(request)
    with server.database() as url:
        house = House(tmp_path / "house", seed=seed, store_url=url)
        try:
            house.start()
            job_id = house.submit(steps=300, save_every=20, attempts=50)
            house.reach(job_id, 20)
            for _ in range(3):
                server.restart("immediate")
                time.sleep(house.random.uniform(0.5, 2.0))
            _patiently(house, job_id)
            undisturbed(house, job_id, 300)
            house.check()
        finally:
            house.close()


def _patiently(house: House, job_id: int) -> None:
    """Wait for an end while our own connections break too."""
    deadline = time.monotonic() + 120
    while True:
        try:
            house.finish(job_id)
            return
        except DBAPIError:
            assert time.monotonic() < deadline
            time.sleep(0.5)


DAY, HOUR, TO_2038 = 86400.0, 3600.0, 2_147_483_648.0


@pytest.mark.parametrize(
    "jump", [DAY, -HOUR, HOUR, TO_2038 - time.time() + 60], ids=["a day on", "an hour back", "summer time", "2038"]
)
def test_25_a_clock_that_jumps_runs_nothing_twice(house: House, jump: float) -> None:
    file = house.root / "clock"
    file.write_text("0")
    clock = {"ATELIER_FAULT_CLOCK": file}
    first = house.start(**clock)
    job_id, short = house.submit(steps=250, save_every=25), house.submit(kind="import", steps=20)
    house.reach(job_id, 20)
    with house.store.write() as session:
        settings.put(session, CLOCK_KEY, jump)
        file.write_text(str(jump))
    house.finish(short)
    house.finish(job_id)
    assert first.lives()
    undisturbed(house, job_id, 250)
    assert house.outcomes(job_id) == ["succeeded"], "the worker's life is proved by more than its lease"
    again = house.submit(steps=250, save_every=25)
    house.reach(again, 20)
    first.kill()  # after a jump, a death is still found
    house.start(**clock)
    house.finish(again)
    undisturbed(house, again, 250)


@pytest.mark.parametrize("step", [2.0, DAY], ids=["two seconds", "a day"])
def test_25_after_a_step_of_the_clock_an_orphan_that_hangs_is_still_known(house: House, step: float) -> None:
    """It holds its run's lock: whoever takes it for a stranger can neither end it nor take its job back."""
    file = house.root / "clock"
    file.write_text("0")
    clock = {"ATELIER_FAULT_CLOCK": file}
    job_id = house.submit(steps=60, fault="hang", fault_at=25)
    first = house.start(**clock)
    house.reach(job_id, 24)
    with house.store.write() as session:
        settings.put(session, CLOCK_KEY, step)
        file.write_text(str(step))
    first.kill()
    house.start(**clock)
    house.finish(job_id)
    undisturbed(house, job_id, 60)
    assert house.outcomes(job_id) == ["lost", "succeeded"]
