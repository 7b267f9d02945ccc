"""A house for a fault: a home, real workers and trainers as processes, their clock twenty times as quick."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import psutil

from engine.runtime.settings import Settings
from engine.runtime.starting import sweep_leftovers
from engine.specs.home import Home
from storage import checkpoints, jobs, metrics
from storage.checkpoints import Checkpoint
from storage.database import open_store
from storage.jobs import Attempt, Event, Job, SubmitOptions
from storage.states import FINAL
from tests.faults.invariants import check_invariants

ROOT = Path(__file__).resolve().parents[2]
QUICKER = 20
USUAL = Settings()
LEASE_S = USUAL.lease_s / QUICKER
GRACE_S = USUAL.grace_s / QUICKER
BACKOFF_S = USUAL.backoff_s / QUICKER
STALL_S = 600 / QUICKER


@dataclass(slots=True)
class Worker:
    """A worker process that the case may kill, freeze and thaw."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    def lives(self) -> bool:
        return self.process.poll() is None

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        """As a crash does: only the worker itself."""
        self.process.kill()
        self.process.wait()

    def stop(self, seconds: float = GRACE_S + 20) -> int:
        """As a deploy does; returns the exit code."""
        self.process.terminate()
        return self.process.wait(seconds)

    def said(self) -> str:
        return self.log.read_text(errors="replace")


class House:
    """One home in a folder of its own. `root` is where the case keeps what is not the studio's."""

    def __init__(self, root: Path, *, seed: int, store_url: str | None = None) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.root, self.seed, self.random = root, seed, random.Random(seed)
        self.home = Home(root / "home", store_url or f"sqlite:///{root / 'home' / 'store.db'}").ensure()
        if store_url is None and not (self.home.root / "store.db").exists():
            shutil.copy(_empty_store(), self.home.root / "store.db")
        self.store = open_store(self.home.store_url)
        self.workers: list[Worker] = []

    @property
    def environment(self) -> dict[str, str]:
        """What its processes run under."""
        usual = {name: value for name, value in os.environ.items() if not name.startswith("ATELIER_FAULT_")}
        return {
            **usual,
            "PYTHONPATH": str(ROOT),
            "PYTHONDONTWRITEBYTECODE": "1",
            "ATELIER_HOME": str(self.home.root),
            "ATELIER_STORE": self.home.store_url,
            "ATELIER_LEASE_S": str(LEASE_S),
            "ATELIER_GRACE_S": str(GRACE_S),
            "ATELIER_BACKOFF_S": str(BACKOFF_S),
            "ATELIER_STALL_S": str(STALL_S),
        }

    def start(self, *arguments: str, **options: Any) -> Worker:
        """Start a worker; keywords are further variables of its environment. It may end by itself at once."""
        prepare = options.pop("prepare", None)
        log = self.root / f"worker-{len(self.workers)}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.worker", *arguments],
                cwd=ROOT,
                env={**self.environment, **{name: str(value) for name, value in options.items()}},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=prepare,
            )
        self.workers.append(Worker(process, log))
        return self.workers[-1]

    def submit(self, *, kind: str = "train", key: str | None = None, attempts: int = 3, **spec: Any) -> int:
        """Queue a dryrun and write down, beside the store, that the store has acknowledged it."""
        options = SubmitOptions(idempotency_key=key, max_attempts=attempts)
        told = {"steps": 40, **spec}
        lane = "gpu" if kind == "train" else "cpu"
        with self.store.write() as session:
            made = jobs.submit(session, kind=kind, name=kind, spec=told, lane=lane, options=options)
        self.acknowledge(made.id, key)
        return made.id

    def acknowledge(self, job_id: int, key: str | None = None) -> None:
        with (self.root / "acknowledged.log").open("a") as log:
            log.write(json.dumps({"id": job_id, "key": key}) + "\n")

    def ask(self, wish: Callable[..., Any], job_id: int, *arguments: Any) -> Any:
        with self.store.write() as session:
            return wish(session, job_id, *arguments)

    def job(self, job_id: int) -> Job:
        with self.store.read() as session:
            return jobs.get(session, job_id)

    def jobs(self) -> list[Job]:
        with self.store.read() as session:
            return jobs.listing(session, limit=100_000)

    def attempts(self, job_id: int) -> list[Attempt]:
        with self.store.read() as session:
            return jobs.attempts(session, job_id)

    def outcomes(self, job_id: int) -> list[str | None]:
        return [one.outcome for one in self.attempts(job_id)]

    def events(self, job_id: int, kind: str | None = None) -> list[Event]:
        with self.store.read() as session:
            found = jobs.events(session, job_id, limit=100_000)
        return [one for one in found if kind is None or one.kind == kind]

    def checkpoints(self, job_id: int) -> list[Checkpoint]:
        with self.store.read() as session:
            return checkpoints.listing(session, job_id)

    def curve(self, job_id: int, name: str = "loss") -> list[tuple[int, float | None]]:
        with self.store.read() as session:
            return metrics.series(session, job_id, limit=1_000_000).get(name, [])

    def steps(self) -> list[list[str]]:
        """What was trained, in the order of time: host, lane, job, token, step, pid, seconds."""
        try:
            return [line.split() for line in (self.root / "steps.log").read_text().splitlines()]
        except FileNotFoundError:
            return []

    def wait(self, until: Callable[[], Any], seconds: float = 60, why: str = "") -> None:
        """Wait for something that must come."""
        deadline = time.monotonic() + seconds
        while not until():
            assert time.monotonic() < deadline, f"not reached in {seconds} s: {why}\n{self.report()}"
            time.sleep(0.02)

    def reach(self, job_id: int, step: int, *, token: int | None = None, seconds: float = 60) -> Job:
        """Wait until a job runs and has reported a step."""

        def there() -> bool:
            found = self.job(job_id)
            reached = found.state == "running" and (found.progress_step or 0) >= step
            return reached and (token is None or found.token >= token)

        self.wait(there, seconds, f"step {step} of job {job_id}")
        return self.job(job_id)

    def finish(self, job_id: int, seconds: float = 90) -> Job:
        """Wait for a job's end."""
        self.wait(lambda: self.job(job_id).state in FINAL, seconds, f"the end of job {job_id}")
        return self.job(job_id)

    def children(self) -> list[psutil.Process]:
        """Every living process that works on this home, our workers apart."""
        own = {worker.pid for worker in self.workers} | {os.getpid()}
        return [one for one in processes_of(self.root) if one.pid not in own]

    def rest(self, seconds: float = 90) -> None:
        """Let everything come to its end, with a worker if it takes one; then end the workers."""
        for worker in self.workers:
            with contextlib.suppress(ProcessLookupError):
                worker.signal(signal.SIGCONT)
        if any(not self._is_at_rest(job) for job in self.jobs()):
            if not any(worker.lives() for worker in self.workers):
                self.start()
            self.wait(lambda: all(self._is_at_rest(job) for job in self.jobs()), seconds, "rest")
        for worker in self.workers:
            if worker.lives():
                worker.stop()
        self.wait(lambda: not self.children(), GRACE_S + 10, "the end of the children")
        sweep_leftovers(self.home, self.store)

    @staticmethod
    def _is_at_rest(job: Job) -> bool:
        return job.state in FINAL or (job.state == "queued" and job.held)

    def check(self, *, without: Collection[str] = ()) -> None:
        """The law of the table: after every case, I1 to I9, but for those that it has broken on purpose."""
        if "I6" not in without:
            self.rest()
        check_invariants(self.store, self.home, without=without)

    def close(self) -> None:
        """End what is left, by force."""
        for one in processes_of(self.root):
            if one.pid != os.getpid():
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.kill()
        for worker in self.workers:
            worker.process.wait()
        self.store.dispose()

    def report(self) -> str:
        """What a person wants to see of a case that failed."""
        lines = []
        for job in self.jobs()[:5]:
            facts = (
                f"job {job.id} {job.state} {job.reason} token={job.token} step={job.progress_step} {job.message or ''}"
            )
            lines += [facts, *(f"  {one.kind} {one.token} {one.data}" for one in self.events(job.id)[-12:])]
            path = self.home.log(job.id)
            if path.exists():
                lines.append(path.read_bytes()[-1500:].decode(errors="replace"))
        lines += [f"{worker.log.name}: {worker.said()[-2500:]}" for worker in self.workers[-3:]]
        return "\n".join(lines)


@cache
def _empty_store() -> Path:
    """A migrated store without a row, made once a process."""
    folder = Path(tempfile.mkdtemp(prefix="atelier-house-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    open_store(f"sqlite:///{folder / 'store.db'}").dispose()
    return folder / "store.db"


def processes_of(root: Path) -> list[psutil.Process]:
    """The living processes whose home lies in a folder, zombies left out."""
    found = []
    for one in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            home = one.environ().get("ATELIER_HOME", "")
            if Path(home).is_relative_to(root) and home and one.status() != psutil.STATUS_ZOMBIE:
                found.append(one)
    return found
