"""The soak: short jobs without end, a random fault every half minute, and the figures of what should stay flat.

`python -m tests.faults.soak --minutes 60 --seed N [--every 30] [--home FOLDER]`

Now and then everything is let come to rest, and I1 to I9 are checked. The seed and a summary are printed at the end; an
invariant that does not hold ends the soak with 1.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import secrets
import signal
import sqlite3
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from storage import jobs
from storage.errors import StoreError
from storage.jobs import Job
from storage.states import FINAL
from tests.faults.dryrun import WEIGHTS, weights_after
from tests.faults.house import LEASE_S, House, Worker

IN_STORE = 4
"""Jobs that wait or run at a time."""
REST_EVERY = 10
"""Faults between two rests."""
PER_JOB: dict[str, dict[str, object]] = {
    "kill": {"fault": "kill", "fault_at": 7},
    "grandchild": {"fault": "grandchild", "fault_at": 3},
    "flood": {"fault": "text", "fault_at": 5, "flood_bytes": 5_000_000},
    "memory": {"fault": "memory", "fault_at": 5, "always": True, "limit_bytes": 2**30},
    "not a number": {"nan_at": 6},
}


@dataclass(slots=True)
class Soak:
    """One soak on one house."""

    house: House
    worker: Worker
    faults: Counter[str] = field(default_factory=Counter)
    samples: list[dict[str, float]] = field(default_factory=list)
    made: int = 0
    checked: int = 0

    def run(self, minutes: float, every_s: float) -> None:
        """Go on until the time is up."""
        ends = time.monotonic() + 60 * minutes
        next_fault = time.monotonic() + every_s
        next_sample, met = time.monotonic(), 0
        while time.monotonic() < ends:
            self._feed()
            if time.monotonic() > next_sample:
                self._sample()
                next_sample += 15.0
            if time.monotonic() > next_fault:
                self._fault()
                next_fault = time.monotonic() + every_s
                met += 1
                if met % REST_EVERY == 0:
                    self._rest()
            time.sleep(0.2)
        self._rest()

    def _feed(self) -> None:
        """Keep some short jobs waiting; a few of them carry a fault of their own."""
        self._live()
        waiting = [job for job in self._open() if not job.held]
        while len(waiting) < IN_STORE:
            draw = self.house.random
            name = draw.choice(["", "", "", "", "", *PER_JOB])
            kind = draw.choice(["train", "import", "import"])
            spec = {"steps": draw.randint(10, 120), "save_every": draw.choice([5, 10, 25]), **PER_JOB.get(name, {})}
            job_id = self.house.submit(kind=kind, key=f"soak-{self.made}", attempts=20, **spec)
            if name:
                self.faults[f"job: {name}"] += 1
            self.made += 1
            waiting.append(self.house.job(job_id))

    def _open(self) -> list[Job]:
        with self.house.store.read() as session:
            return jobs.listing(session, states=[state for state in jobs.counts(session) if state not in FINAL])

    def _live(self) -> None:
        if not self.worker.lives():
            self.worker = self.house.start()

    def _fault(self) -> None:
        name = self.house.random.choice(sorted(FAULTS))
        try:
            FAULTS[name](self)
            self.faults[name] += 1
        except (StoreError, ProcessLookupError, psutil.NoSuchProcess, IndexError):
            self.faults[f"{name} (nothing there)"] += 1
        self._live()

    def _rest(self) -> None:
        """Let go of what is held, let everything end, check, and begin again."""
        for job in self._open():
            if job.held:
                with contextlib.suppress(StoreError):
                    self.house.ask(jobs.resume, job.id)
        self.house.rest(seconds=240)
        for job in self.house.jobs():
            right = weights_after(job.spec["steps"])
            if job.state == "succeeded" and job.reason == "done" and (job.result or {})["weights"] != right:
                raise AssertionError(f"job {job.id} ended with other weights")
        self.house.check()
        self.checked += 1
        self.worker = self.house.start()

    def _sample(self) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            found = psutil.Process(self.worker.pid)
            log = self.house.home.root / "store.db-wal"
            self.samples.append(
                {
                    "rss_mb": found.memory_info().rss / 2**20,
                    "fds": found.num_fds(),
                    "wal_mb": (log.stat().st_size if log.exists() else 0) / 2**20,
                    "children": len(self.house.children()),
                }
            )

    def running(self) -> Job:
        """A job that runs with a process of its own."""
        found = [job for job in self._open() if job.state == "running" and job.pid is not None]
        return self.house.random.choice(found)

    def summary(self) -> dict[str, object]:
        """What is printed."""
        counts = Counter(str(job.state) for job in self.house.jobs())
        reasons = Counter(str(job.reason) for job in self.house.jobs() if job.state == "failed")
        return {
            "jobs": self.made,
            "ended": dict(counts),
            "failed_for": dict(reasons),
            "faults": dict(sorted(self.faults.items())),
            "rests_with_all_invariants": self.checked,
            "flat": {name: _trend([one[name] for one in self.samples]) for name in ("rss_mb", "fds", "wal_mb")},
        }


def _trend(values: list[float]) -> dict[str, float]:
    """The medians of the first and of the last quarter, and the worst."""
    quarter = max(1, len(values) // 4)
    first, last = statistics.median(values[:quarter]), statistics.median(values[-quarter:])
    return {"first_quarter": round(first, 1), "last_quarter": round(last, 1), "most": round(max(values), 1)}


def kill_trainer(soak: Soak) -> None:
    os.kill(soak.running().pid or 0, signal.SIGKILL)


def kill_worker(soak: Soak) -> None:
    soak.worker.kill()


def kill_both(soak: Soak) -> None:
    found = soak.running()
    soak.worker.kill()
    os.killpg(found.pid or 0, signal.SIGKILL)


def new_boot(soak: Soak) -> None:
    kill_both(soak)
    soak.worker = soak.house.start(ATELIER_FAULT_BOOT=f"boot-{soak.faults.total()}")


def deploy(soak: Soak) -> None:
    soak.worker.stop()


def freeze_worker(soak: Soak) -> None:
    soak.worker.signal(signal.SIGSTOP)
    time.sleep(2.5 * LEASE_S)
    soak.worker.signal(signal.SIGCONT)


def freeze_trainer(soak: Soak) -> None:
    found = psutil.Process(soak.running().pid)
    found.suspend()
    time.sleep(2 * LEASE_S)
    found.resume()


def hold_the_lock(soak: Soak) -> None:
    connection = sqlite3.connect(soak.house.home.root / "store.db", isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    time.sleep(soak.house.random.uniform(0.5, 6.0))
    connection.execute("ROLLBACK")
    connection.close()


def read_long(soak: Soak) -> None:
    with soak.house.store.read() as session:
        session.connection().exec_driver_sql("SELECT count(*) FROM job").all()
        time.sleep(10.0)


def spoil_the_newest_checkpoint(soak: Soak) -> None:
    """Of a job that still has to pass that step again."""
    found = soak.running()
    os.kill(found.pid or 0, signal.SIGSTOP)
    rows = soak.house.checkpoints(found.id)
    if len(rows) > 1:
        path = Path(rows[-1].path) / WEIGHTS
        path.write_text(path.read_text()[::-1])
    os.kill(found.pid or 0, signal.SIGKILL)


def click_around(soak: Soak) -> None:
    for wish in (jobs.pause, jobs.resume, jobs.cancel, jobs.retry, jobs.hold, jobs.unhold):
        with contextlib.suppress(StoreError):
            soak.house.ask(wish, soak.house.random.choice(soak.house.jobs()[:8]).id)
        time.sleep(0.3)


FAULTS: dict[str, Callable[[Soak], None]] = {
    one.__name__.replace("_", " "): one
    for one in (
        kill_trainer, kill_worker, kill_both, new_boot, deploy, freeze_worker, freeze_trainer, hold_the_lock,
        read_long, spoil_the_newest_checkpoint, click_around,
    )
}  # fmt: skip


def main() -> None:
    """Soak, and say how it was."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--every", type=float, default=30.0)
    parser.add_argument("--home", type=Path, default=None)
    given = parser.parse_args()
    seed = secrets.randbelow(2**32) if given.seed is None else given.seed
    sys.stderr.write(f"--seed {seed}\n")
    began, wrong = time.monotonic(), ""
    with contextlib.ExitStack() as stack:
        root = given.home or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="atelier-soak-")))
        house = House(root / "house", seed=seed)
        stack.callback(house.close)
        soak = Soak(house, house.start())
        try:
            soak.run(given.minutes, given.every)
        except AssertionError as error:
            wrong = str(error)
        minutes = round((time.monotonic() - began) / 60, 1)
        told = {"seed": seed, "minutes": minutes, "wrong": wrong[:4000], **soak.summary()}
    sys.stdout.write(json.dumps(told, indent=1) + "\n")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
