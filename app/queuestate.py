"""What the Queue page shows, read in one transaction: workers, running and waiting jobs, forecasts, late failures."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from app import crew, forecast
from app.crew import Member
from app.forecast import Earlier, Span, Work
from app.run_list import DISK_FULL
from storage import jobs, metrics, notices
from storage.jobs import Attempt, Job
from storage.states import State

MOST_EARLIER = 30
MOST_FAILED = 5
MOST_PACES = 400
FAILED_WITHIN_S = 86400.0


@dataclass(frozen=True, slots=True)
class Scene:
    """The queue at one moment."""

    members: Sequence[Member]
    running: Sequence[Job]
    waiting: Sequence[Job]
    """In the order in which they will be claimed, the held ones at their place."""
    positions: Mapping[int, int]
    spans: Mapping[int, Span]
    failed: Sequence[tuple[Job, Sequence[Attempt]]]

    @property
    def lives(self) -> bool:
        """Whether there is a worker."""
        return any(one.lives for one in self.members)

    def lacks(self, job: Job) -> list[tuple[str, str]]:
        """Each host with what it lacks for a job, where no living worker of the job's lane can do it."""
        able = [one.worker for one in self.members if one.lives and job.lane in one.worker.lanes]
        told = [(one.host, (one.cannot or {}).get(str(job.id))) for one in able]
        return [(host, what) for host, what in told if what] if all(what for _, what in told) else []


class Paces:
    """The paces of runs that have ended: they do not change any more, so each is read once."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[int, int], float | None] = OrderedDict()

    def of(self, session: Session, job: Job) -> float | None:
        key = (job.id, job.token)
        if key not in self._known:
            self._known[key] = metrics.pace_s(session, job.id)
            if len(self._known) > MOST_PACES:
                self._known.popitem(last=False)
        return self._known[key]


def read(session: Session, paces: Paces, now: float) -> Scene:
    """Read the queue."""
    members = crew.members(session)
    running = jobs.listing(session, states=[State.RUNNING])[::-1]
    waiting = jobs.queue(session)
    failed = notices.ended(session, within_s=FAILED_WITHIN_S, states=[State.FAILED], limit=MOST_FAILED)[::-1]
    earlier = _earlier(session, paces, [*running, *waiting])
    # When a job ends whose worker is gone, nobody knows.
    safe = {job.id for one in members if one.lives for job in one.running} | {job.id for job in waiting}
    took = _took(session, [*running, *waiting])
    work = [
        _work(job, None if job.id not in safe else _seconds(session, job, earlier, took, now))
        for job in (*running, *waiting)
    ]
    return Scene(
        members=members,
        running=running,
        waiting=waiting,
        positions=positions(waiting),
        spans=forecast.forecast(work, crew.room(members), now),
        failed=[(job, jobs.attempts(session, job.id)) for job in failed],
    )


def positions(waiting: Sequence[Job]) -> dict[int, int]:
    """Return the turns of the jobs that are not held, counted in each lane."""
    found: dict[int, int] = {}
    turns: dict[str, int] = {}
    for job in waiting:
        if not job.held:
            found[job.id] = turns[job.lane] = turns.get(job.lane, 0) + 1
    return found


def _earlier(session: Session, paces: Paces, open_jobs: Sequence[Job]) -> list[Earlier]:
    """The runs that have ended well, newest first; none where no run is open that could be compared with them."""
    if not any(job.kind == "train" for job in open_jobs):
        return []
    ended = jobs.listing(session, kinds=["train"], states=[State.SUCCEEDED], limit=MOST_EARLIER)
    return [Earlier(job.spec, job.progress_total, paces.of(session, job)) for job in ended]


def _took(session: Session, open_jobs: Sequence[Job]) -> dict[str, list[float]]:
    """By kind, how long the last jobs of the other open kinds took."""
    kinds = {job.kind for job in open_jobs} - {"train"}
    return {kind: jobs.durations(session, kind=kind, limit=MOST_EARLIER) for kind in kinds}


def _seconds(
    session: Session, job: Job, earlier: Sequence[Earlier], took: Mapping[str, Sequence[float]], now: float
) -> float | None:
    if job.kind != "train":
        begun = job.started_at if job.state == State.RUNNING else None
        return forecast.seconds_left(took[job.kind], 0.0 if begun is None else now - begun)
    pace = metrics.pace_s(session, job.id) if job.attempt else None
    step, total = job.progress_step or 0, job.progress_total
    return forecast.seconds_needed(job.spec, step=step, total=total, pace_s=pace, earlier=earlier)


def _work(job: Job, seconds: float | None) -> Work:
    """A job that waits for room begins nobody knows when."""
    running = job.state == State.RUNNING
    stays = job.held or (not running and job.reason == DISK_FULL)
    return Work(job.id, job.lane, seconds, running=running, held=stays, not_before=job.run_after)
