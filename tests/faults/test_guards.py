"""The guards that stand where no database checks: each alone, so that its removal is seen."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from engine.data import tokens
from engine.data.importer import store_rows
from engine.data.render import Renderer
from engine.models.loading import load_tokenizer
from engine.runtime import locks
from engine.runtime import worker as worker_module
from engine.runtime.child import Context
from engine.runtime.machine import boot_id, host
from engine.runtime.reporting import Reporter
from engine.runtime.rescue import rescue_lost
from engine.runtime.settings import Settings
from engine.runtime.worker import Worker
from engine.specs.base import Spec
from engine.specs.job import parse
from engine.specs.kinds import KINDS
from engine.specs.living import is_alive, start_time
from engine.specs.problem import ProblemError
from storage import jobs, messages, metrics, models, requests, workers
from storage.errors import Fenced
from storage.job_values import job as job_table
from storage.jobs import Claim, Holder, Settlement
from storage.metrics import Point
from storage.models import NewModel
from storage.states import State
from storage.targets import resolve
from tests.fakes.no_helpers import NoHelpers
from tests.faults.house import GRACE_S, House

pytestmark = pytest.mark.sample
SAMPLE = Path(__file__).resolve().parents[2] / "assets" / "samples" / "tickets.jsonl"
SHORT = Settings(lease_s=2.0, grace_s=4.0, backoff_s=0.0, poll_s=0.02)
HERE = f"{host()}:1"


@pytest.fixture
def worker(bare_house: House, monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    """A worker in this process whose children are dryruns."""
    monkeypatch.setitem(KINDS, "train", replace(KINDS["train"], spec=Spec, module="tests.faults.dryrun"))
    monkeypatch.setattr(worker_module, "Helpers", NoHelpers)
    for name in ("ATELIER_HOME", "ATELIER_STORE"):
        monkeypatch.setenv(name, bare_house.environment[name])
    made = Worker(bare_house.home, bare_house.store, SHORT)
    yield made
    for item in list(made.running.values()):
        item.child.kill()


def tick(worker: Worker, until: Any, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < deadline, "not reached in time"
        worker.tick()
        time.sleep(0.02)


def hanging(house: House, worker: Worker) -> jobs.Job:
    """A job whose trainer stands still: it will notice nothing by itself."""
    job_id = house.submit(steps=50, fault="hang", fault_at=3, always=True)
    tick(worker, lambda: (house.job(job_id).progress_step or 0) >= 2)
    return house.job(job_id)


def test_a_worker_that_is_fenced_ends_its_child(bare_house: House, worker: Worker) -> None:
    held = hanging(bare_house, worker)
    with bare_house.store.write() as session:
        jobs.rescue(session, held.id, held.token, requeue=False)
    tick(worker, lambda: not is_alive(held.pid, held.pid_start))


def test_a_worker_that_cannot_reach_the_store_ends_its_child_within_the_lease(
    bare_house: House, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    hanging(bare_house, worker)

    @contextmanager
    def lost() -> Iterator[Any]:
        raise OperationalError("SELECT 1", {}, Exception("the server is gone"))
        yield

    monkeypatch.setattr(worker.store, "write", lost)
    monkeypatch.setattr(worker.store, "read", lost)
    (item,) = worker.running.values()
    began = time.monotonic()
    while item.child.process.poll() is None:
        assert time.monotonic() - began < SHORT.lease_s, "another may hold the job by now"
        worker._renew(item)
        time.sleep(0.02)
    worker.running.clear()


def test_a_job_whose_last_process_still_holds_its_lock_is_not_started(bare_house: House, worker: Worker) -> None:
    """The store gave it to us, but what ran it last is not gone: two trainers would share its devices."""
    job_id = bare_house.submit(steps=500)
    lock = locks.take(bare_house.home.run_lock(job_id))
    assert lock is not None
    tick(worker, lambda: bare_house.outcomes(job_id) == ["still_ending"])
    assert worker.running == {} and bare_house.children() == []
    waiting = bare_house.job(job_id)
    assert (waiting.state, waiting.deaths) == ("queued", 0), "it costs no attempt"
    os.close(lock)
    tick(worker, lambda: list(worker.running) == [job_id])


def test_a_trainer_whose_worker_is_gone_ends_by_itself(bare_house: House) -> None:
    house = bare_house
    job_id = house.submit(steps=5000)
    first = house.start()
    held = house.reach(job_id, 5)
    first.kill()
    house.wait(lambda: not is_alive(held.pid, held.pid_start), GRACE_S, "its lifeline has ended")
    assert house.checkpoints(job_id)[-1].step > 5, "and it has saved"


def test_a_child_holds_the_locks_of_its_job_itself(bare_house: House, worker: Worker) -> None:
    held = hanging(bare_house, worker)
    (item,) = worker.running.values()
    while item.locks:
        os.close(item.locks.pop())
    assert locks.take(bare_house.home.run_lock(held.id)) is None, "the worker's copies are closed, as by its death"


def test_a_child_that_does_not_end_when_it_is_asked_is_killed_after_its_grace(
    bare_house: House, worker: Worker
) -> None:
    held = hanging(bare_house, worker)
    bare_house.ask(jobs.cancel, held.id)
    tick(worker, lambda: bare_house.job(held.id).state == "cancelled", SHORT.grace_s + 10)
    assert bare_house.attempts(held.id)[0].signal == 9


def reporter_of(house: House, lease_s: float) -> tuple[Reporter, Claim]:
    house.submit()
    with house.store.write() as session:
        taken = jobs.claim(session, Holder("w", "h", "b"), lanes=["gpu"], lease_s=600)
    assert taken is not None
    claim, job = taken
    return Reporter(Context(house.home, house.store, job, claim), lease_s=lease_s), claim


def test_a_trainer_whose_claim_is_gone_fences_itself_and_writes_nothing_more(bare_house: House) -> None:
    reporter, claim = reporter_of(bare_house, 60)
    with bare_house.store.write() as session:
        jobs.settle(session, claim, Settlement(State.FAILED, reason="x"))
    reporter.put([Point("loss", 1, 1.0)])
    assert reporter.fenced.wait(5)
    with pytest.raises(Fenced):
        reporter.flush()
    with bare_house.store.read() as session:
        assert metrics.series(session, claim.job_id) == {}


def test_a_trainer_that_reaches_no_store_for_a_lease_fences_itself(
    bare_house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    reporter, _claim = reporter_of(bare_house, 1.0)

    @contextmanager
    def lost() -> Iterator[Any]:
        raise OperationalError("SELECT 1", {}, Exception("the server is gone"))
        yield

    time.sleep(1.0)
    assert not reporter.fenced.is_set(), "while it reaches the store, it lives"
    monkeypatch.setattr(bare_house.store, "write", lost)
    monkeypatch.setattr(bare_house.store, "read", lost)
    assert reporter.fenced.wait(6)


def test_a_lock_has_one_holder_and_is_free_with_its_death(bare_house: House) -> None:
    path = bare_house.root / "lock"
    first = locks.take(path)
    assert first is not None and locks.take(path) is None
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], pass_fds=[first])
    os.close(first)
    assert locks.take(path) is None, "the child holds it"
    child.kill()
    child.wait()
    again = locks.take(path)
    assert again is not None
    os.close(again)


def orphan(house: House, **owner: Any) -> jobs.Job:
    """A running job of a worker of this host that is gone, under a lease that ran out long ago."""
    job_id = house.submit()
    holder = Holder(owner.pop("owner", HERE), host(), owner.pop("boot", boot_id()))
    with house.store.write() as session:
        taken = jobs.claim(session, holder, lanes=["gpu"], lease_s=60)
        assert taken is not None
        session.execute(job_table.update().values(lease_until=job_table.c.lease_until - 1000, **owner))
    return house.job(job_id)


def test_a_job_of_a_dead_worker_is_taken_back(bare_house: House) -> None:
    lost = orphan(bare_house)
    rescue_lost(bare_house.store, bare_house.home, SHORT)
    assert (bare_house.job(lost.id).state, bare_house.outcomes(lost.id)) == ("queued", ["lost"])


def test_a_job_of_a_living_worker_is_left_to_it_however_late_its_lease_is(bare_house: House) -> None:
    """A neighbour's worker in the store: this very process stands for it."""
    parent = os.getppid()
    started = start_time(parent)
    with bare_house.store.write() as session:
        workers.add(session, workers.NewWorker(host(), parent, started, boot_id()))
    lost = orphan(bare_house, owner=f"{host()}:{parent}")
    rescue_lost(bare_house.store, bare_house.home, SHORT)
    assert bare_house.job(lost.id).state == "running"


def test_a_job_of_another_host_is_left_to_it_until_its_lease_and_the_grace_are_over(bare_house: House) -> None:
    """Whether that host lives cannot be seen from here."""
    lost = orphan(bare_house, owner_host="elsewhere")
    rescue_lost(bare_house.store, bare_house.home, replace(SHORT, lease_s=2000))
    assert bare_house.job(lost.id).state == "running", "over, but not for as long as the grace"
    rescue_lost(bare_house.store, bare_house.home, replace(SHORT, lease_s=500))
    assert bare_house.job(lost.id).state == "queued"


def test_a_number_that_another_worker_had_before_saves_no_job(bare_house: House) -> None:
    """The listed worker had this process id, but began at another time: it is dead."""
    parent = os.getppid()
    with bare_house.store.write() as session:
        workers.add(session, workers.NewWorker(host(), parent, 1.0, boot_id()))
    lost = orphan(bare_house, owner=f"{host()}:{parent}")
    rescue_lost(bare_house.store, bare_house.home, SHORT)
    assert bare_house.job(lost.id).state == "queued"


def _lives_on(process: subprocess.Popen[bytes]) -> bool:
    """Whether nobody has killed it: a signal takes a moment to be seen."""
    try:
        process.wait(0.5)
    except subprocess.TimeoutExpired:
        return True
    return False


def test_after_a_new_boot_everything_is_dead_and_nobody_is_killed(bare_house: House) -> None:
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
    lost = orphan(bare_house, boot="an-earlier-boot", pid=stranger.pid, pid_start=start_time(stranger.pid))
    rescue_lost(bare_house.store, bare_house.home, SHORT)
    lives = _lives_on(stranger)
    stranger.kill()
    stranger.wait()
    assert lives and bare_house.job(lost.id).state == "queued"


def test_an_orphan_that_still_trains_keeps_its_job_until_its_lease_has_ended(bare_house: House) -> None:
    """It is about to save and leave; only one that is overdue is killed."""
    lost = orphan(bare_house)
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
    lock = locks.take(bare_house.home.run_lock(lost.id))
    assert lock is not None
    with bare_house.store.write() as session:
        facts = {"pid": child.pid, "pid_start": start_time(child.pid)}
        session.execute(job_table.update().values(lease_until=job_table.c.lease_until + 2000, **facts))
    rescue_lost(bare_house.store, bare_house.home, SHORT)
    lives = _lives_on(child)
    child.kill()
    child.wait()
    os.close(lock)
    assert lives and bare_house.job(lost.id).state == "running"


def test_a_write_waits_for_the_lock_at_its_beginning_not_at_its_first_change(bare_house: House) -> None:
    """A transaction that read before it wrote would be refused at once where another wrote meanwhile."""
    job_id = bare_house.submit()
    errors: list[BaseException] = []

    def count() -> None:
        try:
            for _ in range(60):
                with bare_house.store.write() as session:
                    before = jobs.get(session, job_id).priority
                    time.sleep(0.001)
                    jobs.set_priority(session, job_id, before + 1)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert errors == []
    assert bare_house.job(job_id).priority == 240, "no change was lost"


def test_two_clicks_with_one_key_make_one_job(bare_house: House) -> None:
    assert bare_house.submit(key="click") == bare_house.submit(key="click")
    assert len(bare_house.jobs()) == 1


def test_two_waiting_answers_are_taken_one_after_the_other(bare_house: House) -> None:
    params = {"seed": 1}
    with bare_house.store.write() as session:
        models.add(session, NewModel(name="base", path="/models/base", source="folder", bytes=1))
        targets = [resolve(session, "base:base")] * 2
        _, numbers = messages.ask(session, conversation_id=None, text="Say.", targets=targets, params=params)
    taken = []
    for process_id in (1, 2, 3):
        with bare_house.store.write() as session:
            found = messages.claim(session, base_key=targets[0].base_key, process_id=process_id)
        taken.append(found and (found.id, found.process_id))
    assert taken == [(numbers[0], 1), (numbers[1], 2), None]


def test_an_answered_request_is_never_given_up(bare_house: House) -> None:
    with bare_house.store.write() as session:
        number = requests.ask(session, "tokens", {})
        requests.take(session)
        requests.answer(session, number, {"rows": 1})
        assert requests.fail_overdue(session, [], older_than_s=-10) == []
        assert requests.get(session, number).state == "answered"


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """A stored version of a few rows."""
    lines = SAMPLE.read_text(encoding="utf-8").splitlines()[:12]
    (tmp_path / "some.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return store_rows(tmp_path / "some.jsonl", tmp_path).path


def spec_of_rows() -> Any:
    told = {"name": "x", "model": {"id": "base"}, "data": {"dataset": "rows"}, "objective": {"kind": "sft"}}
    return parse({**told, "tuner": {"kind": "lora"}, "training": {"learning_rate": 1e-4}})


def test_rows_that_are_not_those_of_their_name_are_refused(starter: Path, rows: Path, tmp_path: Path) -> None:
    renderer = Renderer(load_tokenizer(starter))
    whole = tokens.prepare(rows, renderer, spec_of_rows(), tmp_path / "tokens")
    assert whole.counts["train_rows"] > 0
    other = rows.parent.with_name("0" * 64)
    rows.parent.rename(other)
    with pytest.raises(ProblemError, match="data_damaged"):
        tokens.prepare(other / rows.name, renderer, spec_of_rows(), tmp_path / "tokens")
    (other / rows.name).unlink()
    with pytest.raises(ProblemError, match="data_damaged"):
        tokens.prepare(other / rows.name, renderer, spec_of_rows(), tmp_path / "tokens")


def test_token_rows_that_were_changed_are_made_anew(starter: Path, rows: Path, tmp_path: Path) -> None:
    renderer = Renderer(load_tokenizer(starter))
    made = tokens.prepare(rows, renderer, spec_of_rows(), tmp_path / "tokens")
    whole = made.train_path.read_bytes()
    made.train_path.write_bytes(whole[:-9] + bytes(9))
    again = tokens.prepare(rows, renderer, spec_of_rows(), tmp_path / "tokens")
    assert (again.key, again.train_path.read_bytes()) == (made.key, whole)
