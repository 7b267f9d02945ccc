"""What a chat process does with a queued answer: claim, write as it grows, finish; and the end of lost ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict, Unpack

from sqlalchemy import ColumnElement, and_, func, select, update
from sqlalchemy.orm import Session

from storage.clock import now
from storage.errors import Fenced
from storage.message_values import FINISHED, Message, message
from storage.rows import columns, to_value

WAITING = (
    select(message.c.base_key)
    .where(message.c.state == "queued")
    .group_by(message.c.base_key)
    .order_by(func.min(message.c.id))
)


class Ending(TypedDict, total=False):
    """What is known when an answer ends; what is left out keeps its value."""

    content: str
    num_tokens: int
    seconds: float
    stopped_by: str | None
    reason: str | None
    values: dict[str, Any]


def claim(session: Session, *, base_key: str, process_id: int) -> Message | None:
    """Takes the oldest waiting answer for a base; None when there is none."""
    oldest = select(message.c.id).where(message.c.state == "queued", message.c.base_key == base_key)
    best = oldest.order_by(message.c.id).limit(1).with_for_update(skip_locked=True).scalar_subquery()
    statement = (
        update(message)
        .where(message.c.id == best, message.c.state == "queued")
        .values(state="running", process_id=process_id, started_at=now())
        .returning(*columns(message, Message))
    )
    row = session.execute(statement).one_or_none()
    return None if row is None else to_value(Message, row)


def write(session: Session, message_id: int, process_id: int, *, content: str, num_tokens: int) -> bool:
    """Shows the answer as far as it is; returns whether a person asked to stop. Fenced when it is not its any more."""
    first = func.coalesce(message.c.first_token_at, now())
    statement = (
        update(message)
        .where(_held(message_id, process_id))
        .values(content=content, num_tokens=num_tokens, first_token_at=first)
        .returning(message.c.stop_requested)
    )
    stop: bool | None = session.execute(statement).scalar()
    if stop is None:
        raise Fenced("message", message_id, process_id)
    return stop


def finish(session: Session, message_id: int, process_id: int, *, state: str, **ending: Unpack[Ending]) -> None:
    """Ends an answer as done, failed or stopped. Fenced when it is not this process's any more."""
    if state not in FINISHED:
        raise ValueError(f"an answer ends as one of {', '.join(FINISHED)}, not {state}")
    values = {"state": state, "finished_at": now(), "stop_requested": False, **ending}
    if ending.get("content"):
        values["first_token_at"] = func.coalesce(message.c.first_token_at, now())
    statement = update(message).where(_held(message_id, process_id)).values(values).returning(message.c.id)
    if session.execute(statement).scalar() is None:
        raise Fenced("message", message_id, process_id)


def waiting_bases(session: Session) -> list[str]:
    """The bases that an answer waits for, the one that waits longest first."""
    return list(session.execute(WAITING).scalars())


def fail_of_dead(session: Session, process_id: int, reason: str) -> list[int]:
    """Fails the answers that a dead process was writing; what it wrote of them stays."""
    return _fail(session, (message.c.state == "running", message.c.process_id == process_id), reason=reason, values={})


def fail_waiting(session: Session, base_key: str, *, reason: str, values: dict[str, Any]) -> list[int]:
    """Fails the answers that wait for a base which cannot be loaded."""
    waiting = (message.c.state == "queued", message.c.base_key == base_key)
    return _fail(session, waiting, reason=reason, values=values)


def _fail(session: Session, where: Sequence[ColumnElement[bool]], *, reason: str, values: dict[str, Any]) -> list[int]:
    failed = {"state": "failed", "finished_at": now(), "reason": reason, "values": values, "stop_requested": False}
    statement = update(message).where(*where).values(failed).returning(message.c.id)
    return sorted(session.execute(statement).scalars())


def _held(message_id: int, process_id: int) -> ColumnElement[bool]:
    return and_(message.c.id == message_id, message.c.process_id == process_id, message.c.state == "running")
