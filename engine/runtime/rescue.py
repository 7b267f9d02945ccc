"""Jobs whose worker is gone: taken back once they are proved dead, or their lease on another host is over."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
from collections.abc import Mapping

from engine.runtime import backoff, checkpoints, locks
from engine.runtime.machine import boot_id, host, session_of
from engine.runtime.settings import Settings
from engine.specs.home import Home
from engine.specs.living import is_alive
from storage import jobs, workers
from storage.database import Store
from storage.errors import Fenced
from storage.jobs import Claim, Job
from storage.states import State

log = logging.getLogger(__name__)


def rescue_lost(store: Store, home: Home, settings: Settings, *, holding: Mapping[int, int] | None = None) -> None:
    """Give back to the queue what a dead worker of this host held, and what any other let run out.

    `holding` are the tokens of the jobs that this worker runs. What it holds besides, it was given in a transaction
    whose reply was lost: nothing was started for it.
    """
    own, kept = f"{host()}:{os.getpid()}", dict(holding or {})
    with store.read() as session:
        running = jobs.listing(session, states=[State.RUNNING], limit=1000)
        expired = {job.id for job in jobs.expired(session, grace_s=settings.lease_s)}
        overdue = {job.id for job in jobs.expired(session, grace_s=0.0)}
        listed = {f"{one.host}:{one.pid}": one for one in workers.live(session, within_s=86400)}
    for job in running:
        here = job.owner_host == host()
        if here and job.owner == own and job.owner_boot == boot_id():
            if kept.get(job.id) != job.token:
                _give_back(store, job)
            continue
        if here and job.owner_boot == boot_id():
            owner = listed.get(job.owner or "")
            if owner is not None and is_alive(owner.pid, owner.pid_start):
                continue
            if not _is_dead(home, job, overdue=job.id in overdue):
                continue
        elif not here and job.id not in expired:
            continue
        if here:
            checkpoints.sweep_attempt(home.runs / str(job.id) / str(job.token))
        _take_back(store, job, settings)


def _is_dead(home: Home, job: Job, *, overdue: bool) -> bool:
    """Whether the job's process is gone for sure, and with it all that it started.

    One that lost its worker ends by itself; one that hangs is killed, and what a dead one has left behind.
    """
    lock = locks.take(home.run_lock(job.id))
    if lock is not None:
        os.close(lock)
    left = session_of(job.pid, job.pid_start)
    for pid in left if lock is not None or overdue else ():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return lock is not None and not left


def _take_back(store: Store, job: Job, settings: Settings) -> None:
    pause = backoff.pause_s(job.deaths, backoff_s=settings.backoff_s)
    with contextlib.suppress(Fenced), store.write() as session:
        jobs.rescue(session, job.id, job.token, requeue=True, run_after_s=pause)
        log.warning("rescued job=%d token=%d owner=%s", job.id, job.token, job.owner)


def _give_back(store: Store, job: Job) -> None:
    unused = jobs.Settlement("requeue", reason="not_started", counts=False)
    with contextlib.suppress(Fenced), store.write() as session:
        jobs.settle(session, Claim(job.id, job.attempt, job.token), unused)
        log.warning("given back job=%d token=%d: claimed, but the reply was lost", job.id, job.token)
