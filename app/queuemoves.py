"""How a waiting job is moved in its lane of the queue, and the names of the priorities."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from sqlalchemy.orm import Session

from storage import jobs
from storage.errors import Conflict
from storage.jobs import Job

Level = Literal["high", "normal", "low"]
PRIORITIES: dict[Level, int] = {"high": 10, "normal": 0, "low": -10}


def up(session: Session, job_id: int) -> Job:
    """Move a job before the one ahead of it; the first stays."""
    found = _lane(session, job_id)
    return jobs.place_before(session, job_id, found[max(0, found.index(job_id) - 1)])


def down(session: Session, job_id: int) -> Job:
    """Move a job behind the one after it; the last stays."""
    found = _lane(session, job_id)
    behind = found[found.index(job_id) + 1 :]
    if not behind:
        return jobs.get(session, job_id)
    return jobs.place_before(session, job_id, behind[1] if len(behind) > 1 else None)


def top(session: Session, job_id: int) -> Job:
    """Move a job before all others."""
    return jobs.place_before(session, job_id, _lane(session, job_id)[0])


def end(session: Session, job_id: int) -> Job:
    """Move a job behind all others."""
    return jobs.place_before(session, job_id, None)


Move = Literal["top", "up", "down", "end"]
MOVES: dict[Move, Callable[[Session, int], Job]] = {"top": top, "up": up, "down": down, "end": end}


def _lane(session: Session, job_id: int) -> list[int]:
    """The waiting jobs of a job's lane in their order; the job is one of them."""
    job = jobs.get(session, job_id)
    found = [one.id for one in jobs.queue(session) if one.lane == job.lane]
    if job_id not in found:
        raise Conflict("job_not_queued", {"id": job_id, "state": job.state})
    return found
