"""The starter model on the list: asked for where it is missing, so that it is always there."""

from __future__ import annotations

from sqlalchemy.orm import Session

from engine.specs.kinds import KINDS
from engine.specs.starter import ADD_STARTER, STARTER
from storage import jobs, models
from storage.jobs import Job
from storage.states import State


def is_there(session: Session) -> bool:
    """Tell whether the starter is on the list."""
    return any(one.name == STARTER for one in models.listing(session))


def ask_for(session: Session) -> Job | None:
    """Queue the job that adds the starter, or return the one that is doing so; None where it is there."""
    if is_there(session):
        return None
    told = ADD_STARTER.model_dump()
    under_way = jobs.listing(session, kinds=["add_model"], states=[State.QUEUED, State.RUNNING])
    same = next((one for one in under_way if one.spec == told), None)
    return same or jobs.submit(session, kind="add_model", name=STARTER, spec=told, lane=KINDS["add_model"].lane)
