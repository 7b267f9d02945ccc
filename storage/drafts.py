"""Half-filled forms: they survive a reload and a restart."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from storage.clock import now
from storage.rows import table_of, upsert
from storage.tables import DraftRow

draft = table_of(DraftRow)


def get(session: Session, page: str, *, for_change: bool = False) -> dict[str, Any]:
    """What was last entered on a page; empty where nothing was. For a change nobody else changes it meanwhile."""
    statement = select(draft.c.content).where(draft.c.page == page)
    return session.execute(statement.with_for_update() if for_change else statement).scalar() or {}


def put(session: Session, page: str, content: dict[str, Any]) -> None:
    """Keeps what is entered on a page."""
    insert = upsert(session, draft).values(page=page, content=content, changed_at=now())
    new = {"content": insert.excluded.content, "changed_at": insert.excluded.changed_at}
    session.execute(insert.on_conflict_do_update(index_elements=["page"], set_=new))
