"""Several hosts on one PostgreSQL and one shared home: who takes what, and what becomes of a host that vanishes."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from engine.runtime import fitting, helpers, locks, process
from engine.runtime.fitting import Here
from engine.runtime.settings import Settings
from engine.runtime.worker import TAKEN, Worker
from engine.specs.base import Spec
from engine.specs.home import Home
from engine.specs.kinds import KINDS, JobKind
from engine.specs.living import is_alive
from storage import datasets, jobs, messages, metrics, models, processes, requests, workers
from storage.database import Store, open_store
from storage.datasets import NewVersion
from storage.models import NewModel
from storage.states import State
from storage.tables import ChatProcessRow
from storage.targets import Target
from storage.workers import NewWorker
from tests.runtime.machine_room import LEASE_S, Room, room

FAST = Settings(lease_s=4.0, grace_s=5.0, backoff_s=0.05, poll_s=0.02)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path, f"sqlite:///{tmp_path / 'store.db'}").ensure()


@pytest.fixture
def store(postgres_url: str) -> Iterator[Store]:
    opened = open_store(postgres_url)
    yield opened
    opened.dispose()


@pytest.fixture
def two_hosts(home: Home, store: Store) -> Iterator[Room]:
    with room(home, store) as one:
        one.start("north")
        one.start("south")
        one.until(lambda: {worker.host for worker in _listed(store)} == {"north", "south"})
        yield one


def _listed(store: Store) -> list[workers.Worker]:
    with store.read() as session:
        return workers.live(session)


def list_worker(store: Store, host: str) -> None:
    with store.write() as session:
        workers.add(session, NewWorker(host, 1, None, "boot"))


def test_two_hosts_share_the_work_and_do_each_job_once(two_hosts: Room) -> None:
    ids = [two_hosts.submit(steps=3, pause_s=0.05) for _ in range(12)]
    two_hosts.until_over(*ids)
    assert {two_hosts.job(one).state for one in ids} == {State.SUCCEEDED}
    done = [two_hosts.attempts(one) for one in ids]
    assert [len(one) for one in done] == [1] * 12
    assert {one[0].host for one in done} == {"north", "south"}
    assert {path.name for path in (two_hosts.home.root / "locks").iterdir()} >= {"north", "south"}


def test_a_second_worker_is_refused_on_its_own_host_alone(two_hosts: Room) -> None:
    assert two_hosts.start("north").wait(60) == TAKEN
    assert two_hosts.start("south").wait(60) == TAKEN
    assert all(worker.poll() is None for worker in two_hosts.workers[:2])


def test_the_job_of_a_host_that_vanished_goes_on_on_the_other_after_its_lease(two_hosts: Room) -> None:
    job_id = two_hosts.submit(steps=120, pause_s=0.05)
    before = two_hosts.until_at_step(job_id, 3)
    gone = two_hosts.workers[["north", "south"].index(str(before.owner_host))]
    gone.kill()
    os.killpg(int(before.pid or 0), signal.SIGKILL)
    two_hosts.until_over(job_id)
    first, second = two_hosts.attempts(job_id)
    assert (first.outcome, second.outcome) == ("lost", "succeeded")
    assert {first.host, second.host} == {"north", "south"}
    assert second.started_at - first.started_at > LEASE_S, "another host is not to be doubted before its lease is over"
    with two_hosts.store.read() as session:
        assert [step for step, _ in metrics.series(session, job_id)["loss"]] == list(range(1, 121))


def test_a_host_that_stood_still_past_its_lease_changes_nothing_when_it_wakes(two_hosts: Room) -> None:
    job_id = two_hosts.submit(steps=60, pause_s=0.05)
    before = two_hosts.until_at_step(job_id, 3)
    frozen = two_hosts.workers[["north", "south"].index(str(before.owner_host))]
    frozen.send_signal(signal.SIGSTOP)
    os.killpg(int(before.pid or 0), signal.SIGSTOP)
    two_hosts.until(lambda: two_hosts.job(job_id).token == 2)
    two_hosts.until_at_step(job_id, 30)
    frozen.send_signal(signal.SIGCONT)
    os.killpg(int(before.pid or 0), signal.SIGCONT)
    two_hosts.until_over(job_id)
    two_hosts.until(lambda: not is_alive(before.pid, before.pid_start))
    assert [one.outcome for one in two_hosts.attempts(job_id)] == ["lost", "succeeded"]
    with two_hosts.store.read() as session:
        assert [step for step, _ in metrics.series(session, job_id)["loss"]] == list(range(1, 61))
    assert frozen.poll() is None, "the worker itself goes on"


# --- what a host can do --------------------------------------------------------------------------------------------


@pytest.fixture
def things(store: Store, tmp_path: Path) -> dict[str, Path]:
    """A model and a dataset that are there, and ones that only another host sees."""
    there = {"model": tmp_path / "base", "rows": tmp_path / "rows.parquet"}
    there["model"].mkdir()
    there["rows"].touch()
    with store.write() as session:
        models.add(session, NewModel("seen", str(there["model"]), "folder", 1))
        models.add(session, NewModel("unseen", "/other/host/base", "folder", 1))
        for name, path in (("seen", there["rows"]), ("unseen", Path("/other/host/rows.parquet"))):
            datasets.add_version(
                session, NewVersion(name, name, str(path), "conversation", "messages", 1, 1, 1, "rows.jsonl")
            )
    return there


def spec_of(model: str = "seen", dataset: str = "seen", devices: str = "auto", **changes: Any) -> dict[str, Any]:
    part = {"id": model, **changes}
    return {"model": part, "data": {"dataset": dataset, "version": 1}, "resources": {"devices": devices}}


ASKED = [
    ("train", spec_of(), None),
    ("train", spec_of(model="unseen"), "/other/host/base"),
    ("train", spec_of(dataset="unseen"), "/other/host/rows.parquet"),
    ("train", spec_of(devices="cuda"), "gpu"),
    ("train", spec_of(model="nowhere"), None),
    ("train", spec_of(start_from="99"), None),
    ("train", {**spec_of(), "objective": {"kind": "distill", "teacher": "unseen"}}, "/other/host/base"),
    ("train", {**spec_of(), "objective": {"kind": "distill", "teacher": "seen"}}, None),
    ("trial", {"run": spec_of(dataset="unseen")}, "/other/host/rows.parquet"),
    ("trial", {"run": spec_of(devices="cuda")}, "gpu"),
    ("import", {"staged": "gone"}, "staging/gone"),
    ("add_model", {"source": "folder", "location": "/other/host/base"}, "/other/host/base"),
    ("add_model", {"source": "hub", "location": "org/name"}, None),
    ("export", {"target": "99"}, None),
    ("other", {}, None),
]


@pytest.mark.parametrize(("kind", "spec", "wanting"), ASKED)
def test_a_host_knows_what_it_lacks(
    kind: str, spec: dict[str, Any], wanting: str | None, home: Home, store: Store, things: dict[str, Path]
) -> None:
    here = Here(home, "north", has_gpu=False)
    with store.write() as session:
        job = jobs.submit(session, kind=kind, name="a", spec=spec, lane="gpu")
        found = fitting.obstacle(session, here, job)
    assert found == wanting or (wanting is not None and str(found).endswith(wanting))
    with store.read() as session:
        assert fitting.obstacles(session, here, [job]) == {}, "a host alone takes everything"
    list_worker(store, "south")
    with store.read() as session:
        assert list(fitting.obstacles(session, here, [job])) == ([job.id] if wanting else [])


def test_a_worker_takes_what_fits_past_what_does_not(
    home: Home, store: Store, things: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(KINDS, "train", JobKind(Spec, "tests.fakes.steps", "gpu"))
    monkeypatch.setenv("ATELIER_HOST_NAME", "north")
    monkeypatch.setenv("ATELIER_HOME", str(home.root))
    monkeypatch.setenv("ATELIER_STORE", store.url.render_as_string(hide_password=False))
    worker = Worker(home, store, FAST)
    with store.write() as session:
        for spec in (spec_of(devices="cuda"), spec_of(dataset="unseen"), spec_of()):
            jobs.submit(session, kind="train", name="run", spec={**spec, "steps": 500}, lane="gpu")
    list_worker(store, "south")
    try:
        worker._claim()
        assert list(worker.running) == [3]
    finally:
        for item in worker.running.values():
            item.child.kill()
            for lock in item.locks:
                os.close(lock)


class Spawned:
    """Remembers what a host would have started."""

    def __init__(self) -> None:
        self.modules: list[str] = []

    def __call__(self, module: str, arguments: Any, **_: Any) -> Any:
        self.modules.append(module)
        return type("Child", (), {"pid": 1, "ended": lambda self: None, "kill": lambda self: None})()


@pytest.fixture
def spawned(monkeypatch: pytest.MonkeyPatch) -> Spawned:
    found = Spawned()
    monkeypatch.setattr(process, "spawn", found)
    return found


def ask(store: Store, path: str) -> str:
    key = f"{path}|none|float32"
    target = Target("base:x", path, key, "none", "float32", None, None, None, None)
    with store.write() as session:
        messages.ask(session, conversation_id=None, text="hello", targets=[target], params={})
    return key


def standing_on(host: str, home: Home, store: Store, monkeypatch: pytest.MonkeyPatch) -> helpers.Helpers:
    monkeypatch.setenv("ATELIER_HOST_NAME", host)
    return helpers.Helpers(home, store)


def test_a_base_is_loaded_by_one_host_that_sees_it(
    home: Home, store: Store, things: dict[str, Path], spawned: Spawned, monkeypatch: pytest.MonkeyPatch
) -> None:
    list_worker(store, "north")
    list_worker(store, "south")
    ask(store, "/other/host/base")
    key = ask(store, str(things["model"]))
    both = [standing_on(host, home, store, monkeypatch) for host in ("north", "south")]
    for standing in [*both, *both]:
        standing.tick()
    with store.read() as session:
        assert [one.base_key for one in processes.listing(session)] == [key]
    assert spawned.modules.count("engine.runtime.chat") == 1


def test_a_chat_process_of_a_host_that_vanished_gives_way_to_another(
    home: Home, store: Store, things: dict[str, Path], spawned: Spawned, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = ask(store, str(things["model"]))
    with store.write() as session:
        lost = processes.add(session, base_key=key, host="south", pid=5, pid_start=1.0)
        processes.seen(session, lost.id, state="ready")
        taken = messages.claim(session, base_key=key, process_id=lost.id)
    ask(store, str(things["model"]))
    standing = standing_on("north", home, store, monkeypatch)
    standing.tick()
    assert "engine.runtime.chat" not in spawned.modules
    with store.write() as session:
        session.execute(update(ChatProcessRow).values(seen_at=ChatProcessRow.seen_at - 120))
    standing._preview_looked_at = -1e9
    standing.tick()
    assert spawned.modules.count("engine.runtime.chat") == 1
    with store.read() as session:
        assert [one.host for one in processes.listing(session)] == ["north"]
        assert taken is not None and messages.get(session, taken.id).state == "failed"


def test_a_request_is_answered_by_a_host_that_sees_its_files(home: Home, store: Store, things: dict[str, Path]) -> None:
    here = Here(home, "north", has_gpu=False)
    with store.write() as session:
        version = datasets.get(session, "unseen", 1)
        requests.ask(session, "tokens", {"version_id": version.id, "row": 0, "model": "seen"})
        seen = requests.ask(session, "plan", {"spec": spec_of()})
    with store.read() as session:
        assert fitting.answerable(session, here) is None
    list_worker(store, "south")
    with store.write() as session:
        only = fitting.answerable(session, here)
        assert only == [seen]
        assert fitting.answerable(session, here, without=["plan"]) == []
        taken = requests.take(session, only=only, taken_by="north")
        assert taken is not None and (taken.id, taken.taken_by) == (seen, "north")


def test_a_preview_child_that_died_fails_what_its_own_host_took(store: Store) -> None:
    with store.write() as session:
        ids = [requests.ask(session, "plan", {}) for _ in range(2)]
        for host in ("north", "south"):
            requests.take(session, taken_by=host)
        requests.fail_taken(session, [], taken_by="north")
        assert [requests.get(session, one).state for one in ids] == ["failed", "taken"]
        session.execute(update(requests.request).values(taken_at=requests.request.c.taken_at - 100))
        assert requests.fail_overdue(session, [], older_than_s=50, taken_by="north") == []
        assert requests.fail_overdue(session, [], older_than_s=50) == [ids[1]]


def test_locks_of_one_host_say_nothing_to_another(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATELIER_HOST_NAME", "north")
    held = locks.take(home.run_lock(1))
    assert held is not None and locks.take(home.run_lock(1)) is None
    locks.sweep(home.locks)
    assert home.run_lock(1).exists(), "a lock that is held stays"
    monkeypatch.setenv("ATELIER_HOST_NAME", "../sou/th")
    other = locks.take(home.run_lock(1))
    assert other is not None and home.locks.parent == home.root / "locks"
    os.close(other)
    locks.sweep(home.locks)
    assert not home.run_lock(1).exists()
    with contextlib.suppress(OSError):
        os.close(held)
