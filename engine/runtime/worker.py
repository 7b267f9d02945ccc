"""The worker: one a home. Claims jobs, runs each in a child process, renews leases, settles what ended. No torch."""

from __future__ import annotations

import argparse
import contextlib
import logging
import math
import os
import signal
import threading
import time
from dataclasses import dataclass, field

from sqlalchemy.exc import DBAPIError

from engine.runtime import locks, process
from engine.runtime.helpers import Helpers
from engine.runtime.machine import boot_id, devices, host, start_time
from engine.runtime.notifying import Notifier
from engine.runtime.process import Child
from engine.runtime.rescue import rescue_lost
from engine.runtime.settings import Settings
from engine.runtime.settling import settlement_of
from engine.runtime.starting import list_starter, sweep_leftovers
from engine.specs.home import Home
from engine.specs.kinds import KINDS, LANES
from storage import jobs, workers
from storage.database import Store, open_store
from storage.errors import Fenced
from storage.jobs import Claim, Flags, Holder, Job

log = logging.getLogger(__name__)

TAKEN = 64
"""The exit code where another worker has the home: whoever started this one looks again."""
RESCUE_EVERY_S = 1.0
LOOK_EVERY_S = 1.0
"""How often at least the store is read although nothing was written to it: delays and leases run out by themselves."""


@dataclass(slots=True)
class Running:
    """A claimed job and its child."""

    claim: Claim
    job: Job
    child: Child
    lock: int
    renewed_at: float
    flags: Flags = field(default_factory=lambda: Flags(False, False, False))


class Worker:
    """Invariant: every job in `running` is claimed by us, or its child is being ended."""

    def __init__(self, home: Home, store: Store, settings: Settings) -> None:
        self.home, self.store, self.settings = home, store, settings
        self.holder = Holder(f"{host()}:{os.getpid()}", host(), boot_id())
        self.running: dict[int, Running] = {}
        self.helpers = Helpers(home, store)
        self.ending = threading.Event()
        self._news = store.watch()
        self._rescued = self._looked = -math.inf

    def tick(self) -> None:
        """One round: the children are looked at each time, the store only when there may be news in it."""
        look = self._news.changed() or time.monotonic() - self._looked > min(LOOK_EVERY_S, self.settings.lease_s / 8)
        for item in list(self.running.values()):
            look = self._watch(item, look=look) or look
        if not look:
            return
        self._looked = time.monotonic()
        if not self.ending.is_set():
            if time.monotonic() - self._rescued > RESCUE_EVERY_S:
                self._rescued = time.monotonic()
                rescue_lost(self.store, self.home, self.settings)
            self._claim()
        self.helpers.tick()

    def _claim(self) -> None:
        for lane, room in LANES.items():
            while sum(item.job.lane == lane for item in self.running.values()) < room:
                with self.store.read() as session:
                    if not jobs.claimable(session, lanes=[lane]):
                        break
                with self.store.write() as session:
                    taken = jobs.claim(session, self.holder, lanes=[lane], lease_s=self.settings.lease_s)
                if taken is None:
                    break
                self._start(*taken)

    def _start(self, claim: Claim, job: Job) -> None:
        lock = locks.take(self.home.runs / str(job.id) / "lock")
        if lock is None:  # the last attempt's process still holds it: its death is not yet complete
            self._put_back(claim, "still_ending", run_after_s=1.0)
            return
        try:
            (self.home.runs / str(job.id) / str(claim.token)).mkdir(parents=True, exist_ok=True)
            arguments = [str(job.id), str(claim.token)]
            child = process.spawn(KINDS[job.kind].module, arguments, log=self.home.log(job.id), locks=[lock])
        except OSError as error:
            log.error("not started job=%d: %s", job.id, error)
            os.close(lock)
            self._put_back(claim, "not_started", run_after_s=self.settings.backoff_s)
            return
        self.running[job.id] = Running(claim, job, child, lock, time.monotonic())
        log.info("started job=%d token=%d kind=%s pid=%d", job.id, claim.token, job.kind, child.pid)
        with contextlib.suppress(Fenced), self.store.write() as session:
            jobs.started(session, claim, pid=child.pid, pid_start=child.pid_start)

    def _put_back(self, claim: Claim, reason: str, *, run_after_s: float) -> None:
        waiting = jobs.Settlement("requeue", reason=reason, counts=False, run_after_s=run_after_s)
        with contextlib.suppress(Fenced), self.store.write() as session:
            jobs.settle(session, claim, waiting)

    def _watch(self, item: Running, *, look: bool) -> bool:
        """Look after a child; whether it has ended."""
        code = item.child.ended()
        if code is not None:
            self._settle(item, code)
            return True
        if look:
            self._renew(item)
        if self.ending.is_set() or item.flags.cancel or (item.flags.pause and item.job.kind != "train"):
            item.child.ask_to_end()
        item.child.insist(self.settings.grace_s)
        return False

    def _renew(self, item: Running) -> None:
        """Renew the lease, look for wishes; a worker that cannot reach the store ends its child in time."""
        now = time.monotonic()
        try:
            if now - item.renewed_at > self.settings.lease_s / 4:
                with self.store.write() as session:
                    item.flags = jobs.renew(session, item.claim, lease_s=self.settings.lease_s)
                item.renewed_at = now
            else:
                with self.store.read() as session:
                    item.flags = jobs.flags(session, item.claim)
        except Fenced:
            log.warning("fenced job=%d token=%d", item.job.id, item.claim.token)
            item.child.kill()
        except DBAPIError as error:
            log.warning("store not reached: %s", error)
            if now - item.renewed_at > self.settings.lease_s * 0.75:
                item.child.kill()

    def _settle(self, item: Running, code: int) -> None:
        settlement = settlement_of(
            self.home, item.job, item.claim, code, ending=self.ending.is_set(), settings=self.settings
        )
        with contextlib.suppress(Fenced):
            with self.store.write() as session:
                settled = jobs.settle(session, item.claim, settlement)
            log.info("settled job=%d token=%d state=%s", settled.id, item.claim.token, settled.state)
        os.close(item.lock)
        del self.running[item.job.id]

    def run(self, *, until_job: int | None = None) -> None:
        """Work until asked to end, or until one job has come to an end or to a hold."""
        with self.store.write() as session:
            workers.sweep(session, older_than_s=600)
            row = workers.add(
                session,
                workers.NewWorker(
                    self.holder.host, os.getpid(), start_time(os.getpid()), self.holder.boot_id, devices(), list(LANES)
                ),
            )
        notifier = Notifier(self.store, row.id, pause_s=self.settings.backoff_s)
        notifier.start()
        seen = 0.0
        while not (self.ending.is_set() and not self.running):
            try:
                self.tick()
                if time.monotonic() - seen > 2.0:
                    seen = time.monotonic()
                    with self.store.write() as session:
                        workers.seen(session, row.id)
                    self.store.checkpoint()
                if until_job is not None and self._is_over(until_job):
                    self.ending.set()
            except DBAPIError as error:
                log.warning("store not reached: %s", error)
                self.ending.wait(1.0)
            time.sleep(self.settings.poll_s if not self.helpers.is_busy() else self.settings.poll_s / 4)
        self.helpers.close()
        notifier.close()
        with self.store.write() as session:
            workers.gone(session, row.id)

    def _is_over(self, job_id: int) -> bool:
        with self.store.read() as session:
            job = jobs.get(session, job_id)
        return job.state not in ("queued", "running") or job.held


def main() -> None:
    """`python -m engine.runtime.worker [--until-job ID]`"""
    parser = argparse.ArgumentParser(prog="atelier worker")
    parser.add_argument("--until-job", type=int)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    home = Home.from_environment().ensure()
    lock = locks.take(home.root / "worker.lock")
    if lock is None:
        log.warning("another worker already serves this home")
        raise SystemExit(TAKEN)
    store = open_store(home.store_url)
    sweep_leftovers(home)
    list_starter(home, store)
    worker = Worker(home, store, Settings.from_environment())
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: worker.ending.set())
    worker.run(until_job=arguments.until_job)
    os.close(lock)


if __name__ == "__main__":
    main()
