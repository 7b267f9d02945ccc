"""Jobs whose worker is gone: taken back once their processes are proved dead."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import time

from engine.runtime import locks
from engine.runtime.machine import boot_id, host, is_alive
from engine.runtime.settings import Settings
from engine.specs.home import Home
from storage import jobs, workers
from storage.database import Store
from storage.errors import Fenced
from storage.jobs import Job
from storage.states import State

log = logging.getLogger(__name__)


def rescue_lost(store: Store, home: Home, settings: Settings) -> None:
    """Give back to the queue what a dead worker of this host held, and what any other let run out."""
    with store.read() as session:
        running = jobs.listing(session, states=[State.RUNNING])
        expired = {job.id for job in jobs.expired(session, grace_s=settings.lease_s)}
        listed = {f"{one.host}:{one.pid}": one for one in workers.live(session, within_s=86400)}
    for job in running:
        here = job.owner_host == host()
        if here and job.owner == f"{host()}:{os.getpid()}" and job.owner_boot == boot_id():
            continue
        if here and job.owner_boot == boot_id():
            owner = listed.get(job.owner or "")
            if owner is not None and is_alive(owner.pid, owner.pid_start):
                continue
            if not _is_dead(home, job):
                continue
        elif not here and job.id not in expired:
            continue
        _take_back(store, job)


def _is_dead(home: Home, job: Job) -> bool:
    """Whether the job's process is gone for sure. One that lost its worker ends by itself; one that hangs is killed."""
    lock = locks.take(home.runs / str(job.id) / "lock")
    if lock is not None:
        os.close(lock)
        return True
    if job.pid is not None and is_alive(job.pid, job.pid_start) and _is_overdue(job):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(job.pid, signal.SIGKILL)
    return False


def _is_overdue(job: Job) -> bool:
    return time.time() > (job.lease_until or 0)


def _take_back(store: Store, job: Job) -> None:
    with contextlib.suppress(Fenced), store.write() as session:
        jobs.rescue(session, job.id, job.token, requeue=True, run_after_s=0.0)
        log.warning("rescued job=%d token=%d owner=%s", job.id, job.token, job.owner)
