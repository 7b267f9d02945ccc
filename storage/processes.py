"""Chat processes: one for each base in memory, with what it takes and where it runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypedDict, Unpack

from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session

from storage.clock import now
from storage.errors import Fenced, NotFound
from storage.rows import columns, one_at_a_time, select_values, table_of, to_value, to_values
from storage.tables import ChatProcessRow

process = table_of(ChatProcessRow)

SEEN_WITHIN_S = 60.0
"""A process that was not seen for longer counts as gone: its host may have vanished with it."""


@dataclass(frozen=True, slots=True)
class ChatProcess:
    """A process that holds one base and serves all its adapters."""

    id: int
    base_key: str
    host: str
    pid: int
    pid_start: float | None
    state: str
    """loading, ready or gone"""
    device: str | None
    device_reason: str | None
    memory_bytes: int | None
    adapters: list[str]
    unload_requested: bool
    started_at: float
    seen_at: float


class Sighting(TypedDict, total=False):
    """What a process can tell of itself."""

    state: str
    device: str | None
    device_reason: str | None
    memory_bytes: int | None
    adapters: list[str]


def add(session: Session, *, base_key: str, host: str, pid: int, pid_start: float | None) -> ChatProcess:
    """Lists a process that has begun to load a base."""
    values: dict[str, Any] = {"base_key": base_key, "host": host, "pid": pid, "pid_start": pid_start}
    values |= {"state": "loading", "adapters": [], "started_at": now(), "seen_at": now()}
    statement = insert(process).values(values).returning(*columns(process, ChatProcess))
    return to_value(ChatProcess, session.execute(statement).one())


def add_first(
    session: Session, *, base_key: str, host: str, pid: int, pid_start: float | None, within_s: float = SEEN_WITHIN_S
) -> ChatProcess | None:
    """Lists a process unless one serves the base already, also where several hosts begin at one instant."""
    one_at_a_time(session, f"base {base_key}")
    if base_key in serving(session, within_s=within_s):
        return None
    return add(session, base_key=base_key, host=host, pid=pid, pid_start=pid_start)


def seen(session: Session, process_id: int, **facts: Unpack[Sighting]) -> bool:
    """Notes that the process lives; returns whether it was asked to unload. Fenced when it was written off."""
    alive = (process.c.id == process_id, process.c.state != "gone")
    statement = update(process).where(*alive).values(seen_at=now(), **facts).returning(process.c.unload_requested)
    asked: bool | None = session.execute(statement).scalar()
    if asked is None:
        raise Fenced("chat_process", process_id, process_id)
    return asked


def gone(session: Session, process_id: int) -> None:
    """Notes that the process has ended."""
    session.execute(update(process).where(process.c.id == process_id).values(state="gone", seen_at=now()))


def get(session: Session, process_id: int) -> ChatProcess:
    """The process of an id, also one that is gone."""
    row = session.execute(select_values(process, ChatProcess).where(process.c.id == process_id)).one_or_none()
    if row is None:
        raise NotFound("chat_process", process_id)
    return to_value(ChatProcess, row)


def listing(session: Session) -> list[ChatProcess]:
    """The processes that are not gone, first started first."""
    statement = select_values(process, ChatProcess).where(process.c.state != "gone").order_by(process.c.id)
    return to_values(ChatProcess, session.execute(statement))


def serving(session: Session, *, within_s: float = SEEN_WITHIN_S) -> set[str]:
    """The bases that a process serves which was seen within the last seconds."""
    lives = (process.c.state != "gone", process.c.seen_at >= now() - within_s)
    return set(session.execute(select(process.c.base_key).where(*lives)).scalars())


def lost(session: Session, *, older_than_s: float = SEEN_WITHIN_S) -> list[ChatProcess]:
    """The processes that are not gone and were not seen for longer."""
    late = (process.c.state != "gone", process.c.seen_at < now() - older_than_s)
    return to_values(ChatProcess, session.execute(select_values(process, ChatProcess).where(*late)))


def request_unload(session: Session, process_id: int) -> None:
    """Asks a process to free its memory and end."""
    get(session, process_id)
    session.execute(update(process).where(process.c.id == process_id).values(unload_requested=True))
