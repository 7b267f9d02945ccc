"""What the buttons of the Queue page ask of the store. An order is `verb:id` or `verb:id:more`."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy.orm import Session

from app import draft, failure, ids, queuemoves
from app.queuemoves import PRIORITIES
from storage import jobs
from storage.errors import NotFound
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


def _place(session: Session, job_id: int, more: str) -> None:
    """Right before another job; 0 is the end of the queue."""
    other = ids.number(more)
    if other is None:
        raise NotFound("job", more)
    jobs.place_before(session, job_id, other or None)


def _priority(session: Session, job_id: int, more: str) -> None:
    level = next((value for name, value in PRIORITIES.items() if name == more), None)
    if level is not None:
        jobs.set_priority(session, job_id, level)


def _clone(session: Session, job_id: int, _more: str) -> str:
    draft.fill_from(session, jobs.get(session, job_id).spec)
    return "/train"


def _remedy(session: Session, job_id: int, more: str) -> str | None:
    return failure.apply(session, more, job_id)


ORDERS: dict[str, Order] = {
    "up": _plain(queuemoves.up),
    "down": _plain(queuemoves.down),
    "top": _plain(queuemoves.top),
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
