"""Models that can be trained: a name, a folder, and where it came from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import delete, update
from sqlalchemy.orm import Session

from storage import checkpoints
from storage.clock import now
from storage.errors import Conflict, NotFound
from storage.rows import columns, select_values, table_of, to_value, to_values, upsert
from storage.tables import ModelRow
from storage.usage import merger_of, user_of

model = table_of(ModelRow)


@dataclass(frozen=True, slots=True)
class NewModel:
    """A folder that was checked and may be loaded."""

    name: str
    path: str
    source: str
    bytes: int
    licence: str | None = None
    parameters: int | None = None
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Model:
    """A base to train on and to talk to."""

    id: int
    name: str
    path: str
    source: str
    licence: str | None
    parameters: int | None
    bytes: int
    facts: dict[str, Any]
    created_at: float


SELECT_MODEL = select_values(model, Model)


def add(session: Session, new: NewModel) -> Model:
    """Adds a model; the same name and folder gives the one that is there, with its facts brought up to date."""
    values = {name: getattr(new, name) for name in NewModel.__dataclass_fields__}
    statement = (
        upsert(session, model)
        .values(created_at=now(), **values)
        .on_conflict_do_update(index_elements=["name"], set_=values, where=model.c.path == new.path)
        .returning(*columns(model, Model))
    )
    row = session.execute(statement).one_or_none()
    if row is None:
        raise Conflict("model_name_taken", {"name": new.name})
    return to_value(Model, row)


def move(session: Session, new: NewModel) -> Model:
    """Adds a model, or brings the one of its name and source to another folder; what was trained on it moves along."""
    same = SELECT_MODEL.where(model.c.name == new.name, model.c.source == new.source)
    known = session.execute(same.with_for_update()).one_or_none()
    if known is not None and known.path != new.path:
        session.execute(update(model).where(model.c.id == known.id).values(path=new.path))
        checkpoints.move_base(session, known.path, new.path)
    return add(session, new)


def get(session: Session, name: str) -> Model:
    """The model of a name."""
    row = session.execute(SELECT_MODEL.where(model.c.name == name)).one_or_none()
    if row is None:
        raise NotFound("model", name)
    return to_value(Model, row)


def listing(session: Session) -> list[Model]:
    """All models, first added first."""
    return to_values(Model, session.execute(SELECT_MODEL.order_by(model.c.id)))


def remove(session: Session, name: str) -> Model:
    """Takes a model off the list and returns it: its folder is the caller's."""
    found = get(session, name)
    user = user_of(session, section="model", key="id", name=name) or merger_of(session, f"base:{name}")
    if user is not None:
        raise Conflict("model_in_use", {"name": name, "by": user})
    session.execute(delete(model).where(model.c.id == found.id))
    return found
