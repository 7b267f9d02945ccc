"""Workers as processes of their own on pretended hosts, with the fake kinds, on any store."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.specs.home import Home
from storage import jobs
from storage.database import Store
from storage.jobs import Attempt, Job
from storage.states import FINAL

ROOT = Path(__file__).parents[2]
LEASE_S = 2.0
WORKER = """
from engine.runtime import worker
from engine.specs.base import Spec
from engine.specs.kinds import KINDS, JobKind
from tests.runtime.test_worker import NoHelpers
for kind in ("import", "train"):
    KINDS[kind] = JobKind(Spec, "tests.fakes.steps", "cpu")
worker.Helpers = NoHelpers
worker.list_starter = lambda *_: None
worker.main()
"""


@dataclass
class Room:
    """A home and a store, and the workers that serve them."""

    home: Home
    store: Store
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, host: str = "here", **environment: str) -> subprocess.Popen[bytes]:
        """Start a worker on a host of this name."""
        own = {
            "ATELIER_HOST_NAME": host,
            "ATELIER_HOME": str(self.home.root),
            "ATELIER_STORE": self.store.url.render_as_string(hide_password=False),
            "ATELIER_LEASE_S": str(LEASE_S),
            "ATELIER_GRACE_S": "5",
            "ATELIER_BACKOFF_S": "0.1",
            "PYTHONPATH": str(ROOT),
        }
        with (self.home.root / f"worker-{host}.log").open("ab") as log:
            started = subprocess.Popen(
                [sys.executable, "-c", WORKER],
                env={**os.environ, **own, **environment},
                stdout=log,
                stderr=log,
                cwd=ROOT,
            )
        self.workers.append(started)
        return started

    def log(self, host: str = "here") -> str:
        return (self.home.root / f"worker-{host}.log").read_text(errors="replace")

    def submit(self, *, kind: str = "import", **spec: Any) -> int:
        with self.store.write() as session:
            return jobs.submit(session, kind=kind, name="count", spec={"steps": 5, **spec}, lane="cpu").id

    def job(self, job_id: int) -> Job:
        with self.store.read() as session:
            return jobs.get(session, job_id)

    def attempts(self, job_id: int) -> list[Attempt]:
        with self.store.read() as session:
            return jobs.attempts(session, job_id)

    def until(self, condition: Callable[[], Any], *, seconds: float = 60) -> Any:
        deadline = time.monotonic() + seconds
        while not (found := condition()):
            assert time.monotonic() < deadline, "not reached in time"
            time.sleep(0.05)
        return found

    def until_over(self, *job_ids: int, seconds: float = 60) -> None:
        self.until(lambda: all(self.job(one).state in FINAL for one in job_ids), seconds=seconds)

    def until_at_step(self, job_id: int, step: int) -> Job:
        self.until(lambda: (self.job(job_id).progress_step or 0) >= step)
        return self.job(job_id)


@contextlib.contextmanager
def room(home: Home, store: Store) -> Iterator[Room]:
    """A room whose workers, and their children, end with it."""
    one = Room(home, store)
    try:
        yield one
    finally:
        for worker in one.workers:
            with contextlib.suppress(ProcessLookupError):
                worker.send_signal(signal.SIGCONT)
            worker.terminate()
        for worker in one.workers:
            try:
                worker.wait(30)
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()
