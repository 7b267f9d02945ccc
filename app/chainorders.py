"""What the buttons of the Stages page ask of the store: an order is `verb:stage`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy.orm import Session

from app import chains as written
from app import draft, filling, ids
from storage import chains, drafts, jobs, stages
from storage.chains import NewStage, Stage
from storage.errors import Conflict

PAGE = "chains"
LONGEST_NAME = 60
Order = Callable[[Session, int], str | None]
"""Returns the page to go on at, or None to stay."""


def obey(session: Session, order: str) -> str | None:
    """Carry out an order; returns the page to go on at. An order that nobody could have clicked is ignored.

    Raises:
        NotFound, Conflict: there is no such stage, or it has moved on meanwhile.
        ProblemError: the settings that it is given cannot work.
    """
    verb, asked, *_ = [*order.split(":"), ""]
    number = ids.number(asked)
    return ORDERS[verb](session, number) if verb in ORDERS and number is not None else None


def changing(session: Session) -> int | None:
    """The stage whose settings the Train form has been given."""
    found = drafts.get(session, PAGE).get("changing")
    return int(found) if found is not None else None


def _remember(session: Session, stage_id: int | None) -> None:
    drafts.put(session, PAGE, {**drafts.get(session, PAGE, for_change=True), "changing": stage_id})


def _give_form_back(session: Session) -> None:
    draft.give_back(session)
    _remember(session, None)


def make(session: Session, name: str) -> int:
    """Make an empty chain; returns its id."""
    return chains.create(session, name.strip()[:LONGEST_NAME] or "chain").id


def add_form(session: Session, chain_id: int, name: str) -> None:
    """Add what stands in the Train form as the last stage.

    Raises:
        ProblemError: it cannot work.
        Conflict: the name is taken, or there are too many stages.
    """
    found = filling.current(session).data
    _add(session, chain_id, name or str(found.get("name") or ""), found)


def add_run(session: Session, chain_id: int, run: int, name: str) -> None:
    """Add the settings of a run as the last stage.

    Raises:
        ProblemError, NotFound, Conflict: as above; there is no such run.
    """
    job = jobs.get(session, run)
    _add(session, chain_id, name or job.name, job.spec)


def _add(session: Session, chain_id: int, name: str, run: dict[str, Any]) -> None:
    """Add a stage; a chain that has come to its end waits to be told before it begins the new one."""
    others = chains.stages(session, chain_id)
    first = others[0].spec if others else None
    new = written.stage(session, _free(others, name.strip()), run, first)
    if not any(one.wanted for one in others):
        stages.rest(session, chain_id)
    chains.add_stage(session, chain_id, NewStage(new.name, new.spec))


def _free(others: list[Stage], name: str) -> str:
    """A name that no other stage has: with a number behind it if need be."""
    taken, base = {one.name for one in others}, (name or "stage")[: LONGEST_NAME - 4]
    numbered = (f"{base} {number}" for number in range(2, len(others) + 3))
    return base if base not in taken else next(one for one in numbered if one not in taken)


def _repeat(session: Session, stage_id: int) -> None:
    stages.repeat(session, stage_id)


def _follow(session: Session, stage_id: int) -> None:
    stages.repeat(session, stage_id, following=True)


def _retry(session: Session, stage_id: int) -> None:
    found = chains.stage_by_id(session, stage_id)
    if found.job_id is not None:
        jobs.retry(session, found.job_id)


def _change(session: Session, stage_id: int) -> str:
    found = chains.stage_by_id(session, stage_id)
    draft.lend(session, found.spec)
    _remember(session, stage_id)
    return "/train"


def _keep(session: Session, stage_id: int) -> None:
    if changing(session) != stage_id:  # the form holds another run's settings by now
        raise Conflict("stage_not_in_form", {"id": stage_id})
    found = chains.stage_by_id(session, stage_id)
    chains.change_stage(session, stage_id, written.changed(session, found, filling.current(session).data))
    _give_form_back(session)


def _leave(session: Session, _stage_id: int) -> None:
    _give_form_back(session)


def _earlier(session: Session, stage_id: int) -> None:
    chains.move_stage(session, stage_id, chains.stage_by_id(session, stage_id).place - 1)


def _later(session: Session, stage_id: int) -> None:
    chains.move_stage(session, stage_id, chains.stage_by_id(session, stage_id).place + 1)


def _remove(session: Session, stage_id: int) -> None:
    chains.remove_stage(session, stage_id)
    if changing(session) == stage_id:
        _give_form_back(session)


ORDERS: dict[str, Order] = {
    "repeat": _repeat,
    "follow": _follow,
    "retry": _retry,
    "change": _change,
    "keep": _keep,
    "leave": _leave,
    "earlier": _earlier,
    "later": _later,
    "remove": _remove,
}
