"""Requests to the preview child and its answers: token views, inspections, run cards."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, delete, func, insert, or_, select, update
from sqlalchemy.orm import Session

from storage.clock import now
from storage.errors import Fenced, NotFound
from storage.rows import columns, select_values, table_of, to_value, to_values
from storage.tables import RequestRow

request = table_of(RequestRow)


WAITING = select(func.count()).where(
    request.c.state == "asked", request.c.kind.not_in(bindparam("without", expanding=True))
)


@dataclass(frozen=True, slots=True)
class Request:
    """A question, and its answer once it is there."""

    id: int
    kind: str
    payload: dict[str, Any]
    state: str
    """asked, taken, answered or failed"""
    answer: dict[str, Any] | None
    problems: list[Any]
    created_at: float
    taken_at: float | None
    answered_at: float | None
    taken_by: str | None


ONE_REQUEST = select_values(request, Request).where(request.c.id == bindparam("id"))


def ask(session: Session, kind: str, payload: dict[str, Any]) -> int:
    """Asks; returns the id to wait on."""
    values = {"kind": kind, "payload": payload, "state": "asked", "created_at": now()}
    number: int = session.execute(insert(request).values(values).returning(request.c.id)).scalar_one()
    return number


def waiting(session: Session, *, without: Collection[str] = ()) -> int:
    """How many requests nobody has taken, those of some kinds left out."""
    return session.execute(WAITING, {"without": list(without)}).scalar_one()


def asked(session: Session, *, without: Collection[str] = (), limit: int = 50) -> list[Request]:
    """The requests that nobody has taken, oldest first, those of some kinds left out."""
    open_ = (request.c.state == "asked", request.c.kind.not_in(without))
    statement = select_values(request, Request).where(*open_).order_by(request.c.id).limit(limit)
    return to_values(Request, session.execute(statement))


def recent(session: Session, kind: str, *, failed_within_s: float, limit: int = 50) -> list[Request]:
    """The last requests of a kind, newest first; failed ones only if they failed that lately."""
    holds = or_(request.c.state != "failed", request.c.answered_at > now() - failed_within_s)
    found = select_values(request, Request).where(request.c.kind == kind, holds)
    statement = found.order_by(request.c.id.desc()).limit(limit)
    return to_values(Request, session.execute(statement))


def take(
    session: Session,
    *,
    without: Collection[str] = (),
    only: Sequence[int] | None = None,
    taken_by: str | None = None,
) -> Request | None:
    """Takes the oldest request that is not of these kinds; None when there is none. Who takes it begins at once.

    With `only`, one of these: those that the host `taken_by` can answer.
    """
    open_ = [request.c.state == "asked", request.c.kind.not_in(without)]
    if only is not None:
        open_.append(request.c.id.in_(only))
    oldest = select(request.c.id).where(*open_).order_by(request.c.id).limit(1)
    chosen = (request.c.id == oldest.with_for_update(skip_locked=True).scalar_subquery(), request.c.state == "asked")
    statement = update(request).where(*chosen).values(state="taken", taken_at=now(), taken_by=taken_by)
    row = session.execute(statement.returning(*columns(request, Request))).one_or_none()
    return None if row is None else to_value(Request, row)


def renew(session: Session, request_id: int) -> None:
    """Says that a request is still worked on; Fenced where it was given up."""
    open_ = (request.c.id == request_id, request.c.state == "taken")
    statement = update(request).where(*open_).values(taken_at=now()).returning(request.c.id)
    if session.execute(statement).scalar() is None:
        raise Fenced("request", request_id, request_id)


def fail_overdue(
    session: Session, problems: list[Any], *, older_than_s: float, taken_by: str | None = None
) -> list[int]:
    """Fails the requests that a host (any, if none is named) took or renewed longer ago; returns them."""
    late = [request.c.state == "taken", request.c.taken_at < now() - older_than_s]
    if taken_by is not None:
        late.append(request.c.taken_by == taken_by)
    failed = {"state": "failed", "problems": problems, "answered_at": now()}
    return list(session.execute(update(request).where(*late).values(failed).returning(request.c.id)).scalars())


def answer(session: Session, request_id: int, answer: dict[str, Any]) -> None:
    """Answers a request that was taken."""
    _close(session, request_id, {"state": "answered", "answer": answer})


def fail(session: Session, request_id: int, problems: list[Any]) -> None:
    """Says why a request that was taken has no answer."""
    _close(session, request_id, {"state": "failed", "problems": problems})


def get(session: Session, request_id: int) -> Request:
    """The request with what is known of its answer."""
    row = session.execute(ONE_REQUEST, {"id": request_id}).one_or_none()
    if row is None:
        raise NotFound("request", request_id)
    return to_value(Request, row)


def fail_taken(session: Session, problems: list[Any], *, taken_by: str | None = None) -> None:
    """Fails what the preview child of a host (of any, if none is named) took and, being dead, will not answer."""
    lost = {"state": "failed", "problems": problems, "answered_at": now()}
    where = [request.c.state == "taken"]
    if taken_by is not None:
        where.append(request.c.taken_by == taken_by)
    session.execute(update(request).where(*where).values(lost))


def sweep(session: Session, *, older_than_s: float) -> None:
    """Forgets requests and answers that nobody waits for any more; what is worked on stays."""
    old = (request.c.created_at < now() - older_than_s, request.c.state != "taken")
    session.execute(delete(request).where(*old))


def _close(session: Session, request_id: int, values: dict[str, Any]) -> None:
    open_ = (request.c.id == request_id, request.c.state == "taken")
    statement = update(request).where(*open_).values(answered_at=now(), **values).returning(request.c.id)
    if session.execute(statement).scalar() is None:
        raise Fenced("request", request_id, request_id)
