"""What the buttons of the Queue page ask of the store. An order is `verb:id` or `verb:id:more`."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy.orm import Session

from app import draft, failure, ids
from app.queueview import PRIORITIES
from storage import jobs
from storage.errors import Conflict, NotFound
from storage.jobs import Job

Order = Callable[[Session, int, str], str | None]
"""Returns the page to go on at, or None to stay."""


def obey(session: Session, order: str) -> str | None:
    """Carry out an order; returns the page to go on at, or None. An order that nobody could have clicked is ignored.

    Raises:
        NotFound, Conflict: there is no such job, or it has moved on meanwhile.
    """
    verb, asked, more, *_ = [*order.split(":"), "", "", ""]
    number = ids.number(asked)
    return ORDERS[verb](session, number, more) if verb in ORDERS and number is not None else None


def _plain(ask: Callable[[Session, int], Job]) -> Order:
    def ordered(session: Session, job_id: int, _more: str) -> None:
        ask(session, job_id)

    return ordered


def _lane(session: Session, job_id: int) -> list[int]:
    """The waiting jobs of a job's lane in their order; the job is one of them."""
    job = jobs.get(session, job_id)
    found = [one.id for one in jobs.queue(session) if one.lane == job.lane]
    if job_id not in found:
        raise Conflict("job_not_queued", {"id": job_id, "state": job.state})
    return found


def _up(session: Session, job_id: int, _more: str) -> None:
    found = _lane(session, job_id)
    jobs.place_before(session, job_id, found[max(0, found.index(job_id) - 1)])


def _down(session: Session, job_id: int, _more: str) -> None:
    found = _lane(session, job_id)
    behind = found[found.index(job_id) + 1 :]
    if behind:
        jobs.place_before(session, job_id, behind[1] if len(behind) > 1 else None)


def _top(session: Session, job_id: int, _more: str) -> None:
    jobs.place_before(session, job_id, _lane(session, job_id)[0])


def _place(session: Session, job_id: int, more: str) -> None:
    """Right before another job; 0 is the end of the queue."""
    other = ids.number(more)
    if other is None:
        raise NotFound("job", more)
    jobs.place_before(session, job_id, other or None)


def _priority(session: Session, job_id: int, more: str) -> None:
    if more in PRIORITIES:
        jobs.set_priority(session, job_id, PRIORITIES[more])


def _clone(session: Session, job_id: int, _more: str) -> str:
    draft.fill_from(session, jobs.get(session, job_id).spec)
    return "/train"


def _remedy(session: Session, job_id: int, more: str) -> str | None:
    return failure.apply(session, more, job_id)


ORDERS: dict[str, Order] = {
    "up": _up,
    "down": _down,
    "top": _top,
    "place": _place,
    "priority": _priority,
    "clone": _clone,
    "remedy": _remedy,
    "hold": _plain(jobs.hold),
    "release": _plain(jobs.resume),
    "pause": _plain(jobs.pause),
    "stop": _plain(jobs.stop_and_keep),
    "cancel": _plain(jobs.cancel),
    "retry": _plain(jobs.retry),
}
