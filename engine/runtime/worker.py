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

from engine.runtime import checkpoints, fitting, gpus, locks, process
from engine.runtime.crashing import crash_here
from engine.runtime.fitting import Here
from engine.runtime.gpus import Gpu
from engine.runtime.helpers import Helpers
from engine.runtime.machine import boot_id, devices, host
from engine.runtime.memory import Kills
from engine.runtime.notifying import Notifier
from engine.runtime.process import Child
from engine.runtime.rescue import rescue_lost
from engine.runtime.settings import Settings
from engine.runtime.settling import End, settlement_of
from engine.runtime.space import has_space
from engine.runtime.stall import Pulse
from engine.runtime.starting import list_starter, sweep_leftovers
from engine.specs.home import Home
from engine.specs.kinds import KINDS, LANES
from engine.specs.living import start_time
from storage import jobs, stages, workers
from storage.database import Store, open_store
from storage.errors import Fenced, NotFound, StoreError, StoreGone
from storage.jobs import Claim, Flags, Holder, Job

log = logging.getLogger(__name__)

TAKEN = 64
"""The exit code where another worker has the home: whoever started this one looks again."""
NO_STORE = 70
"""The exit code where home or store cannot be used, or the store was taken away."""
RESCUE_EVERY_S = 1.0
FIRST_PAUSE_S = 0.1
"""After a lost connection; doubled up to an eighth of the lease, so that children are ended in time."""
LOOK_EVERY_S = 1.0
"""How often at least the store is read although nothing was written to it: delays and leases run out by themselves."""
HEAVY = "gpu"
"""The lane whose jobs each take a GPU, where there is one."""
STACKS_S = 2.0
"""From the wish that a child shows its stacks to its kill."""
PASSING = (DBAPIError, OSError)
"""What may have passed a moment later: the store was not reached, or no descriptor was left."""


@dataclass(slots=True)
class Running:
    """A claimed job and its child."""

    claim: Claim
    job: Job
    child: Child
    locks: list[int]
    renewed_at: float
    kills: Kills
    pulse: Pulse
    told: bool = False
    """Whether the store knows the child."""
    stalled_at: float | None = None
    flags: Flags = field(default_factory=lambda: Flags(False, False, False))


class Worker:
    """Invariant: every job in `running` is claimed by us, or its child is being ended."""

    def __init__(self, home: Home, store: Store, settings: Settings) -> None:
        self.home, self.store, self.settings = home, store, settings
        self.holder = Holder(f"{host()}:{os.getpid()}", host(), boot_id())
        self.here = Here.of(home)
        self.devices = devices()
        self.gpus = gpus.names(sum(one["kind"] == "cuda" for one in self.devices))
        self.gpus_are_taken = False
        """Whether a heavy job waits since another studio computes on every GPU."""
        self.cannot: dict[str, dict[int, str]] = {lane: {} for lane in LANES}
        """By lane, the waiting jobs that other hosts have to do, and what this one lacks for each."""
        self.running: dict[int, Running] = {}
        self.helpers = Helpers(home, store)
        self.ending = threading.Event()
        self.until_job: int | None = None
        """The job with whose end, or hold, this worker ends: it claims nothing after that."""
        self._news = store.watch()
        self._rescued = self._looked = -math.inf

    def tick(self) -> None:
        """One round: the children are looked at each time, the store only when there may be news in it.

        Each child is looked after, also where that fails for one of them.

        Raises:
            DBAPIError: the store was not reached.
            OSError: no descriptor was left for a file.
            StoreGone: its file was deleted or replaced.
        """
        look = self._news.changed() or time.monotonic() - self._looked > min(LOOK_EVERY_S, self.settings.lease_s / 8)
        trouble: Exception | None = None
        for item in list(self.running.values()):
            try:
                look = self._watch(item, look=look) or look
            except PASSING as error:
                trouble = error
        if trouble is not None:
            raise trouble
        if not look:
            return
        self._looked = time.monotonic()
        if self.until_job is not None and self._is_over(self.until_job):
            self.ending.set()
        if not self.ending.is_set():
            if time.monotonic() - self._rescued > RESCUE_EVERY_S:
                self._rescued = time.monotonic()
                holding = {number: item.claim.token for number, item in self.running.items()}
                rescue_lost(self.store, self.home, self.settings, holding=holding)
            self._advance_chains()
            self._claim()
        self.helpers.tick()

    def _advance_chains(self) -> None:
        """Submit the stages whose turn it is."""
        with self.store.read() as session:
            ready = stages.ready(session)
        for chain_id in ready:
            with contextlib.suppress(NotFound), self.store.write() as session:  # it was deleted meanwhile
                stages.advance(session, chain_id)

    def _claim(self) -> None:
        for lane, room in LANES.items():
            while sum(item.job.lane == lane for item in self.running.values()) < room and self._claim_one(lane):
                continue

    def _claim_one(self, lane: str) -> bool:
        """Claim and start the best job that this host can do; whether there was one."""
        with self.store.read() as session:
            if not jobs.claimable(session, lanes=[lane]):
                self.cannot[lane] = {}
                return False
            waiting = jobs.waiting(session, lanes=[lane], limit=fitting.LOOK_AT)
            cannot = self.cannot[lane] = fitting.obstacles(session, self.here, waiting)
        only = [one.id for one in waiting if has_space(self.home, one) and one.id not in cannot]
        try:
            gpu = gpus.take(self.gpus) if only and lane == HEAVY else None
        except OSError as error:  # no descriptor is left for its lock
            log.error("no GPU can be locked: %s", error)
            return False
        self.gpus_are_taken = bool(only and lane == HEAVY and self.gpus) and gpu is None
        if not only or self.gpus_are_taken:
            return False
        with contextlib.ExitStack() as unused:
            if gpu is not None:
                unused.callback(gpu.release)
            with self.store.write() as session:
                taken = jobs.claim(session, self.holder, lanes=[lane], lease_s=self.settings.lease_s, only=only)
            if taken is None:
                return False
            unused.pop_all()
        crash_here("worker_claimed")
        self._start(*taken, gpu)
        return True

    def _start(self, claim: Claim, job: Job, gpu: Gpu | None) -> None:
        held = [] if gpu is None else [gpu.lock]
        try:
            lock = locks.take(self.home.run_lock(job.id))
            if lock is None:  # the last attempt's process still holds it: its death is not yet complete
                _close(held)
                self._put_back(claim, "still_ending", run_after_s=1.0)
                return
            held.append(lock)
            (self.home.runs / str(job.id) / str(claim.token)).mkdir(parents=True, exist_ok=True)
            arguments = [str(job.id), str(claim.token)]
            only_gpu = gpu.environment if gpu is not None else {}
            child = process.spawn(
                KINDS[job.kind].module, arguments, log=self.home.log(job.id), locks=held, more=only_gpu
            )
        except OSError as error:
            log.error("not started job=%d: %s", job.id, error)
            _close(held)
            self._put_back(claim, "not_started", run_after_s=self.settings.backoff_s)
            return
        crash_here("worker_spawned")
        now = time.monotonic()
        item = self.running[job.id] = Running(claim, job, child, held, now, Kills(child.pid), Pulse(now))
        log.info("started job=%d token=%d kind=%s pid=%d", job.id, claim.token, job.kind, child.pid)
        self._tell(item)

    def _tell(self, item: Running) -> None:
        """Write down the child; again in the next round where the store was not reached."""
        with contextlib.suppress(Fenced), self.store.write() as session:
            jobs.started(session, item.claim, pid=item.child.pid, pid_start=item.child.pid_start)
        item.told = True
        crash_here("worker_started")

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
            item.kills.look()
            self._renew(item)
            if not item.told:
                self._tell(item)
            self._end_if_stalled(item)
        if self.ending.is_set() or item.flags.cancel or (item.flags.pause and item.job.kind != "train"):
            item.child.ask_to_end()
        item.child.insist(self.settings.grace_s)
        return False

    def _renew(self, item: Running) -> None:
        """Renew the lease, look for wishes; a worker that cannot reach the store ends its child in time."""
        now = time.monotonic()
        try:
            if now - item.renewed_at > self.settings.lease_s / 4:
                crash_here("worker_before_renew")
                with self.store.write() as session:
                    item.flags = jobs.renew(session, item.claim, lease_s=self.settings.lease_s)
                item.renewed_at = now
                crash_here("worker_renewed")
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

    def _end_if_stalled(self, item: Running) -> None:
        """A run that hangs writes its stacks to its log and is killed; one that is being ended has its grace."""
        if not KINDS[item.job.kind].resumes or item.child.asked_to_end_at is not None:
            return
        now = time.monotonic()
        if item.stalled_at is not None:
            if now - item.stalled_at > STACKS_S:
                item.child.kill()
            return
        item.pulse.look(now, item.flags)
        if item.pulse.silent_s > item.pulse.limit_s(self.settings.stall_s):
            log.warning("stalled job=%d silent_s=%.0f", item.job.id, item.pulse.silent_s)
            item.stalled_at = now
            item.child.show_stacks()

    def _settle(self, item: Running, code: int) -> None:
        checkpoints.sweep_attempt(self.home.runs / str(item.job.id) / str(item.claim.token))
        silent_s = None if item.stalled_at is None else item.pulse.silent_s
        end = End(code, self.ending.is_set(), item.kills.moved(), silent_s)
        with self.store.read() as session:
            job, history = jobs.get(session, item.job.id), jobs.attempts(session, item.job.id)
        settlement = settlement_of(self.home, job, item.claim, end, history=history, settings=self.settings)
        crash_here("worker_before_settle")
        with contextlib.suppress(Fenced):
            with self.store.write() as session:
                settled = jobs.settle(session, item.claim, settlement)
            log.info("settled job=%d token=%d state=%s", settled.id, item.claim.token, settled.state)
        crash_here("worker_settled")
        _close(item.locks)
        del self.running[item.job.id]

    def run(self, *, until_job: int | None = None) -> None:
        """Work until asked to end, or until one job has come to an end or to a hold.

        Raises:
            SystemExit: the store was taken away; every child is ended first.
        """
        self.until_job = until_job
        try:
            self._serve()
        except StoreGone as error:
            log.error("%s Every child of this worker is ended.", error)
            for item in self.running.values():
                item.child.kill()
            self.helpers.kill()
            raise SystemExit(NO_STORE) from error

    def _serve(self) -> None:
        row = self._list()
        notifier = Notifier(self.store, row.id, pause_s=self.settings.backoff_s)
        notifier.start()
        seen, pause = 0.0, FIRST_PAUSE_S
        while not (self.ending.is_set() and not self.running):
            try:
                self.tick()
                if time.monotonic() - seen > 2.0:
                    seen = time.monotonic()
                    row = self._be_seen(row)
                    notifier.worker_id = row.id
                    self.store.checkpoint()
                pause = FIRST_PAUSE_S
            except PASSING as error:
                what = "store not reached" if isinstance(error, DBAPIError) else "round not ended"
                log.warning("%s, again in %.1f s: %s", what, pause, error)
                time.sleep(pause)
                pause = min(2 * pause, self.settings.lease_s / 8)
            time.sleep(self.settings.poll_s if not self.helpers.is_busy() else self.settings.poll_s / 4)
        self.helpers.close()
        notifier.close()
        try:
            with self.store.write() as session:
                workers.gone(session, row.id)
        except DBAPIError as error:  # its row is forgotten once it was not seen for a while
            log.warning("store not reached: %s", error)

    def _list(self) -> workers.Worker:
        with self.store.write() as session:
            workers.sweep(session, older_than_s=600)
            pid, kept = os.getpid(), (self.holder.boot_id, self.devices, list(LANES))
            return workers.add(session, workers.NewWorker(self.holder.host, pid, start_time(pid), *kept))

    def _be_seen(self, row: workers.Worker) -> workers.Worker:
        """Note that we live; where another worker forgot us, since we stood still for long, be listed anew."""
        try:
            waits_for = "gpu_elsewhere" if self.gpus_are_taken else None
            cannot = {str(job): what for found in self.cannot.values() for job, what in found.items()}
            with self.store.write() as session:
                workers.seen(session, row.id, waits_for=waits_for, cannot=cannot)
            return row
        except Fenced:
            return self._list()

    def _is_over(self, job_id: int) -> bool:
        with self.store.read() as session:
            job = jobs.get(session, job_id)
        return job.state not in ("queued", "running") or job.held


def _close(descriptors: list[int]) -> None:
    for one in descriptors:
        os.close(one)


def main() -> None:
    """`python -m engine.runtime.worker [--until-job ID]`"""
    parser = argparse.ArgumentParser(prog="atelier worker")
    parser.add_argument("--until-job", type=int)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    try:
        home = Home.from_environment().ensure()
        lock = locks.take(home.worker_lock)
    except OSError as error:
        log.error("the home with its store cannot be used: %s", error)
        raise SystemExit(NO_STORE) from error
    if lock is None:
        log.warning("another worker already serves this home")
        raise SystemExit(TAKEN)
    try:
        store = open_store(home.store_url, create=home.is_new())
    except StoreError as error:
        log.error("%s", error)
        raise SystemExit(NO_STORE) from error
    locks.sweep(home.locks)
    sweep_leftovers(home, store)
    list_starter(home, store)
    worker = Worker(home, store, Settings.from_environment())
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: worker.ending.set())
    worker.run(until_job=arguments.until_job)
    for number in (signal.SIGTERM, signal.SIGINT):  # one more of them must not end us with an error
        signal.signal(number, signal.SIG_IGN)
    os.close(lock)


if __name__ == "__main__":
    main()
