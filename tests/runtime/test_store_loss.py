"""The store goes away for a while, for one reply, or for good: what worker, child and reporter make of it."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from engine.runtime import worker as worker_module
from engine.runtime.child import Context
from engine.runtime.reporting import Reporter
from engine.runtime.rescue import rescue_lost
from engine.runtime.worker import NO_STORE, Worker
from engine.specs.base import Spec
from engine.specs.home import Home
from engine.specs.kinds import KINDS, JobKind
from engine.specs.living import is_alive
from storage import jobs, metrics, workers
from storage.database import Store, open_store
from storage.jobs import Holder
from storage.metrics import Point
from storage.states import State
from tests.postgres import Cluster, cluster
from tests.runtime.machine_room import Room, room
from tests.runtime.test_worker import FAST, NoHelpers, is_final, job, submit, work

LOST = OperationalError("COMMIT", {}, Exception("the connection is gone"), connection_invalidated=True)


@pytest.fixture(scope="module")
def own_cluster() -> Iterator[Cluster]:
    """A server that these tests may stop."""
    with cluster() as running:
        yield running


@pytest.fixture
def served(own_cluster: Cluster, tmp_path: Path) -> Iterator[Room]:
    with own_cluster.database() as url:
        store = open_store(url)
        home = Home(tmp_path, url).ensure()
        with room(home, store) as one:
            one.start(ATELIER_LEASE_S="10")  # longer than the server is away: else the worker has to end its child
            yield one
        store.dispose()


def test_a_run_goes_on_through_crashes_of_the_server_without_losing_a_point(served: Room, own_cluster: Cluster) -> None:
    seed = random.randrange(2**32)
    sys.stdout.write(f"seed {seed}\n")
    chance = random.Random(seed)
    job_id = served.submit(steps=150, pause_s=0.02)
    database = str(served.store.url.database)
    served.until_at_step(job_id, 3)
    for number in range(4):
        time.sleep(chance.uniform(0.1, 0.8))
        if number % 2:
            own_cluster.restart("immediate")
        else:
            own_cluster.terminate(database)
    served.until_over(job_id, seconds=90)
    done = served.job(job_id)
    assert (done.state, done.result) == (State.SUCCEEDED, {"steps": 150})
    with served.store.read() as session:
        assert [step for step, _ in metrics.series(session, job_id)["loss"]] == list(range(1, 151))
    assert {one.outcome for one in served.attempts(job_id)} <= {"lost", "succeeded"}
    assert served.workers[0].poll() is None


def test_a_worker_waits_longer_from_try_to_try_and_takes_up_work_when_the_server_is_back(
    served: Room, own_cluster: Cluster
) -> None:
    served.until_over(served.submit(steps=2))
    own_cluster.stop("immediate")
    try:
        served.until(lambda: served.log().count("store not reached, again in") >= 4)
    finally:
        own_cluster.start()
    pauses = [
        float(line.split("again in ")[1].split(" s")[0]) for line in served.log().splitlines() if "again in" in line
    ]
    assert pauses[:3] == [0.1, 0.2, 0.2] or pauses[:2] == [0.1, 0.2]
    served.until_over(served.submit(steps=2))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("ATELIER_HOME", str(tmp_path))
    for kind in ("import", "train"):
        monkeypatch.setitem(KINDS, kind, JobKind(Spec, "tests.fakes.steps", "cpu"))
    monkeypatch.setattr(worker_module, "Helpers", NoHelpers)
    return Home.from_environment().ensure()


@pytest.fixture
def store(home: Home) -> Iterator[Store]:
    opened = open_store(home.store_url)
    yield opened
    opened.dispose()


@pytest.fixture
def worker(home: Home, store: Store) -> Iterator[Worker]:
    one = Worker(home, store, FAST)
    yield one
    for item in list(one.running.values()):
        item.child.kill()


def lose_replies(monkeypatch: pytest.MonkeyPatch, store: Store, *which: int, commits: bool = True) -> list[int]:
    """The replies to these writes are lost, counted from 1; without `commits` the writes themselves are."""
    real, calls = store.write, []

    @contextmanager
    def write() -> Iterator[Any]:
        calls.append(1)
        number = len(calls)
        if number in which and not commits:
            raise LOST
        with real() as session:
            yield session
        if number in which:
            raise LOST

    monkeypatch.setattr(store, "write", write)
    return calls


def round_(worker: Worker) -> None:
    """One round as `run` makes it."""
    try:
        worker.tick()
    except OperationalError:
        time.sleep(0.02)


def work_through(worker: Worker, until: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < deadline, "not reached in time"
        round_(worker)
        time.sleep(0.02)


def test_a_claim_whose_reply_was_lost_is_given_back_and_costs_no_attempt(
    worker: Worker, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = submit(store, steps=3)
    lose_replies(monkeypatch, store, 1)
    with pytest.raises(OperationalError):
        worker.tick()
    assert (job(store, job_id).state, worker.running) == ("running", {})
    worker._rescued = -1e9
    work_through(worker, is_final(store, job_id))
    done = job(store, job_id)
    assert (done.state, done.granted, done.deaths) == ("succeeded", 1, 0)
    with store.read() as session:
        assert [one.outcome for one in jobs.attempts(session, job_id)] == ["not_started", "succeeded"]


@pytest.mark.parametrize("commits", [True, False], ids=["reply lost", "write lost"])
def test_a_child_that_the_store_was_not_told_of_is_told_in_the_next_round(
    commits: bool, worker: Worker, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = submit(store, steps=200)
    lose_replies(monkeypatch, store, 2, commits=commits)
    with pytest.raises(OperationalError):
        worker.tick()
    assert list(worker.running) == [job_id] and not worker.running[job_id].told
    round_(worker)
    assert worker.running[job_id].told
    assert job(store, job_id).pid == worker.running[job_id].child.pid


@pytest.mark.parametrize("commits", [True, False], ids=["reply lost", "write lost"])
def test_an_end_that_the_store_did_not_confirm_is_told_again_and_counts_once(
    commits: bool, worker: Worker, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = submit(store, steps=2)
    lost = range(3, 6) if not commits else range(3, 4)  # 1 claims, 2 tells of the child
    lose_replies(monkeypatch, store, *lost, commits=commits)
    work_through(worker, lambda: is_final(store, job_id)() and not worker.running)
    with store.read() as session:
        assert [one.outcome for one in jobs.attempts(session, job_id)] == ["succeeded"]
        assert [event.kind for event in jobs.events(session, job_id)].count("settled") == 1


def test_a_job_that_cannot_be_settled_keeps_no_other_child_from_being_looked_after(
    worker: Worker, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = submit(store, steps=1), submit(store, steps=5000)
    work(worker, lambda: len(worker.running) == 2)
    seen: list[int] = []
    real = Worker._watch

    def watch(self: Worker, item: Any, *, look: bool) -> bool:
        seen.append(item.job.id)
        if item.job.id == first:
            raise LOST
        return real(self, item, look=look)

    monkeypatch.setattr(Worker, "_watch", watch)
    with pytest.raises(OperationalError):
        worker.tick()
    assert seen == [first, second]


def test_a_worker_that_reaches_no_store_ends_its_children_within_the_lease(
    worker: Worker, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(store, steps=5000)
    work(worker, lambda: len(worker.running) == 1)
    (item,) = worker.running.values()
    lose_replies(monkeypatch, store, *range(1, 10_000), commits=False)
    began = time.monotonic()
    while item.child.process.poll() is None:
        assert time.monotonic() - began < FAST.lease_s
        round_(worker)
        time.sleep(0.05)
    assert time.monotonic() - began > FAST.lease_s / 3


def test_a_worker_that_was_forgotten_is_listed_anew(worker: Worker, store: Store) -> None:
    row = worker._list()
    with store.write() as session:
        workers.gone(session, row.id)
    again = worker._be_seen(row)
    assert again.id != row.id
    with store.read() as session:
        assert [one.id for one in workers.live(session)] == [again.id]
    assert worker._be_seen(again) == again


def test_a_worker_never_takes_back_what_it_runs(home: Home, store: Store, worker: Worker) -> None:
    job_id = submit(store, steps=500)
    work(worker, lambda: len(worker.running) == 1)
    rescue_lost(store, home, FAST, holding={job_id: worker.running[job_id].claim.token})
    assert job(store, job_id).state == "running"


# --- the file is taken away ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["deleted", "replaced"])
def test_a_store_that_is_taken_away_ends_worker_and_child_with_a_clear_word_and_is_not_made_anew(
    how: str, tmp_path: Path
) -> None:
    home = Home(tmp_path, f"sqlite:///{tmp_path / 'store.db'}").ensure()
    store = open_store(home.store_url)
    with room(home, store) as served:
        started = served.start()
        job_id = served.submit(steps=5000, pause_s=0.02)
        child = served.until_at_step(job_id, 3)
        for path in tmp_path.glob("store.db*"):
            path.rename(tmp_path / f"away-{path.name}")
        if how == "replaced":
            open_store(home.store_url).dispose()
        assert started.wait(30) == NO_STORE
        assert "was deleted or replaced while it was in use" in served.log()
        assert (tmp_path / "store.db").exists() == (how == "replaced")
        served.until(lambda: not is_alive(child.pid, child.pid_start))
        if how == "deleted":
            assert served.start().wait(60) == NO_STORE
            assert not (tmp_path / "store.db").exists(), "a lost store is never silently made anew"
            assert "There is no store" in served.log()
    store.dispose()


# --- the trainer's reporter ------------------------------------------------------------------------------------------


@pytest.fixture
def context(home: Home, store: Store) -> Context:
    with store.write() as session:
        jobs.submit(session, kind="train", name="run", spec={}, lane="cpu")
        taken = jobs.claim(session, Holder("w", "h", "b"), lanes=["cpu"], lease_s=600)
    assert taken is not None
    return Context(home, store, taken[1], taken[0], patience_s=5.0)


def curve(store: Store) -> list[int]:
    with store.read() as session:
        return [step for step, _ in metrics.series(session, 1).get("loss", [])]


def test_the_reporter_keeps_its_points_until_the_store_is_back(
    context: Context, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = lose_replies(monkeypatch, store, 1, 3, 4)
    reporter = Reporter(context, lease_s=10.0)
    for step in range(1, 30):
        reporter.put([Point("loss", step, 1.0)])
        reporter.step(step, 30)
        time.sleep(0.04)
    reporter.close()
    assert len(calls) > 4 and not reporter.fenced.is_set()
    assert curve(store) == list(range(1, 30))
    assert job(store, 1).progress_step == 29


def test_the_last_points_are_tried_again_too(context: Context, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    reporter = Reporter(context, lease_s=10.0)
    reporter._end.set()
    reporter._thread.join()
    lose_replies(monkeypatch, store, 1, 2, commits=False)
    reporter.put([Point("loss", 1, 1.0)])
    reporter.close()
    assert curve(store) == [1]


def test_a_reporter_whose_store_is_taken_away_stops_the_run(context: Context, store: Store) -> None:
    reporter = Reporter(context, lease_s=10.0)
    assert store.file is not None
    store.file.unlink()
    assert reporter.fenced.wait(5)
    reporter._thread.join(5)


def test_a_phase_is_told_again_when_the_store_was_not_reached(
    context: Context, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    lose_replies(monkeypatch, store, 1, 2)
    context.phase("training")
    context.progress(3, 9)
    found = job(store, 1)
    assert (found.phase, found.progress_step, found.progress_total) == ("training", 3, 9)


def test_a_child_that_lost_the_store_is_tried_again_and_not_failed(worker: Worker, store: Store) -> None:
    """The same code as for a claim that is gone: 76, an infrastructure death."""
    job_id = submit(store, steps=4, lose_store_at=2)
    work(worker, is_final(store, job_id))
    assert job(store, job_id).state == "succeeded"
    with store.read() as session:
        assert [(one.outcome, one.exit_code) for one in jobs.attempts(session, job_id)] == [
            ("lost", 76),
            ("succeeded", 0),
        ]
