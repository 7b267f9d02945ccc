"""The workers as they are: which live, which are gone, and what each does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy.orm import Session

from engine.specs.home import host_name
from engine.specs.kinds import LANES
from engine.specs.living import is_alive
from storage import jobs, workers
from storage.jobs import Job
from storage.states import State
from storage.workers import Worker


@dataclass(frozen=True, slots=True)
class Member:
    """A worker, whether it lives, and the jobs that it holds."""

    worker: Worker
    lives: bool
    running: tuple[Job, ...]


def living(session: Session) -> list[Worker]:
    """The workers seen lately; one of this host also has to have its process: a killed one is gone at once."""
    here = host_name()
    return [one for one in workers.live(session) if one.host != here or is_alive(one.pid, one.pid_start)]


def members(session: Session) -> list[Member]:
    """All listed workers, those that live first."""
    lives = {one.id for one in living(session)}
    running = jobs.listing(session, states=[State.RUNNING])
    found = [Member(one, one.id in lives, _held(one, running)) for one in workers.listing(session)]
    return sorted(found, key=lambda one: (not one.lives, one.worker.id))


def _held(worker: Worker, running: list[Job]) -> tuple[Job, ...]:
    return tuple(job for job in running if job.owner == f"{worker.host}:{worker.pid}")


def room(found: list[Member]) -> Mapping[str, int]:
    """How many jobs of each lane the living workers run at a time."""
    alive = [one.worker for one in found if one.lives]
    return {lane: each * sum(lane in one.lanes for one in alive) for lane, each in LANES.items()}
