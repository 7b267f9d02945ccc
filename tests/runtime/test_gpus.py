"""One heavy job a GPU: the lock holds between studios, and a worker whose GPUs are in use claims nothing for them."""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager

import pytest
from sqlalchemy.exc import OperationalError

from engine.runtime import gpus
from engine.runtime import worker as worker_module
from engine.runtime.settings import Settings
from engine.runtime.worker import Worker
from engine.specs.base import Spec
from engine.specs.home import Home
from engine.specs.kinds import KINDS, JobKind
from storage import jobs, workers
from storage.database import open_store
from tests.fakes.no_helpers import NoHelpers

TWO = ("0", "1")


def test_two_studios_never_share_a_gpu(tmp_path):
    first, second = gpus.take(TWO, tmp_path), gpus.take(TWO, tmp_path)
    assert first is not None and second is not None
    assert (first.name, second.name) == TWO
    assert gpus.take(TWO, tmp_path) is None
    first.release()
    again = gpus.take(TWO, tmp_path)
    assert again is not None and again.environment == {"CUDA_VISIBLE_DEVICES": "0"}
    again.release()
    second.release()


@pytest.mark.parametrize(
    ("listed", "expected"),
    [(None, TWO), ("1", ("1",)), ("GPU-ab/1, 0", ("GPU-ab/1", "0")), ("", ()), ("-1", ())],
)
def test_a_user_may_say_which_gpus_there_are(listed, expected):
    assert gpus.names(2, {} if listed is None else {"CUDA_VISIBLE_DEVICES": listed}) == expected


def test_without_gpus_there_are_none_to_take(tmp_path):
    assert gpus.names(0, {"CUDA_VISIBLE_DEVICES": "0"}) == ()
    assert gpus.take((), tmp_path) is None


@pytest.fixture
def worker(tmp_path, monkeypatch):
    monkeypatch.setenv("ATELIER_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setitem(KINDS, "train", JobKind(Spec, "tests.fakes.steps", "gpu"))
    monkeypatch.setattr(worker_module, "Helpers", NoHelpers)
    monkeypatch.setattr(worker_module, "devices", lambda: [{"kind": "cuda", "name": "A"}, {"kind": "cpu", "cores": 2}])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    home = Home.from_environment().ensure()
    store = open_store(home.store_url)
    one = Worker(home, store, Settings(lease_s=4.0, grace_s=5.0, backoff_s=0.05, poll_s=0.02))
    yield one
    for item in list(one.running.values()):
        item.child.kill()
    store.dispose()


def test_a_heavy_job_waits_for_a_gpu_that_another_studio_computes_on_and_says_so(worker):
    other = gpus.take(("0",))
    assert other is not None
    with worker.store.write() as session:
        number = jobs.submit(session, kind="train", name="run", spec={"steps": 500}, lane="gpu").id
    row = worker._list()
    worker.tick()
    worker._be_seen(row)
    with worker.store.read() as session:
        assert (jobs.get(session, number).state, jobs.get(session, number).token) == ("queued", 0)
        assert [one.waits_for for one in workers.live(session)] == ["gpu_elsewhere"]
    other.release()
    worker._looked = 0.0
    worker.tick()
    worker._be_seen(row)
    with worker.store.read() as session:
        running = jobs.get(session, number)
        assert (running.state, [one.waits_for for one in workers.live(session)]) == ("running", [None])
    told = dict(line.split("=", 1) for line in _environ(running.pid) if "=" in line)
    assert told["CUDA_VISIBLE_DEVICES"] == "0"
    assert gpus.take(("0",)) is None
    worker.running[number].child.kill()
    while worker.running:
        worker.tick()
    free = gpus.take(("0",))
    assert free is not None
    free.release()


def test_without_a_descriptor_for_its_lock_a_heavy_job_waits_and_the_light_ones_run(worker, monkeypatch):
    def take(*_):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(gpus, "take", take)
    monkeypatch.setitem(KINDS, "import", JobKind(Spec, "tests.fakes.steps", "cpu"))
    with worker.store.write() as session:
        heavy = jobs.submit(session, kind="train", name="run", spec={"steps": 500}, lane="gpu").id
        light = jobs.submit(session, kind="import", name="rows", spec={"steps": 500}, lane="cpu").id
    worker.tick()
    with worker.store.read() as session:
        states = {number: jobs.get(session, number).state for number in (heavy, light)}
    assert states == {heavy: "queued", light: "running"}


def test_a_claim_that_does_not_reach_the_store_gives_its_gpu_back(worker, monkeypatch):
    with worker.store.write() as session:
        jobs.submit(session, kind="train", name="run", spec={"steps": 500}, lane="gpu")

    reached = worker.store.write

    @contextmanager
    def lost():
        with reached() as session:
            yield session
            raise OperationalError("COMMIT", {}, Exception("the server is gone"))

    monkeypatch.setattr(worker.store, "write", lost)
    with pytest.raises(OperationalError):
        worker._claim_one("gpu")
    free = gpus.take(("0",))
    assert free is not None
    free.release()


def _environ(pid: int | None) -> list[str]:
    with open(f"/proc/{pid}/environ", "rb") as handle:
        return os.fsdecode(handle.read()).split("\0")
