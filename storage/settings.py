"""Settings of the studio: a key and any JSON value. Secrets never come here."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from storage.rows import table_of, upsert
from storage.tables import SettingRow

setting = table_of(SettingRow)


def get(session: Session, key: str, default: Any = None) -> Any:
    """The value of a key, or the default where none was put."""
    content = session.execute(select(setting.c.content).where(setting.c.key == key)).scalar()
    return default if content is None else content["value"]


def put(session: Session, key: str, value: Any) -> None:
    """Keeps a value."""
    insert = upsert(session, setting).values(key=key, content={"value": value})
    session.execute(insert.on_conflict_do_update(index_elements=["key"], set_={"content": insert.excluded.content}))
