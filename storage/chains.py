"""Chains: runs in stages, one after another. What runs of them is in `stages`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete as delete_from
from sqlalchemy import func, insert, select, update
from sqlalchemy.orm import Session

from storage.clock import now
from storage.errors import Conflict, NotFound
from storage.job_values import job
from storage.rows import columns, select_values, table_of, to_value, to_values
from storage.states import FINAL
from storage.tables import ChainRow, StageRow

chain = table_of(ChainRow)
stage = table_of(StageRow)
MOST_STAGES = 50


@dataclass(frozen=True, slots=True)
class NewStage:
    """A stage that is to be added: the spec of a run, complete but for what it starts from."""

    name: str
    spec: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Chain:
    """Stages under one name. While it is `going`, each is submitted as soon as the one before it is done."""

    id: int
    name: str
    going: bool
    created_at: float


@dataclass(frozen=True, slots=True)
class Stage:
    """A link of a chain; `job_id` is its newest run, `wanted` says that it is still to be run."""

    id: int
    chain_id: int
    place: int
    name: str
    spec: dict[str, Any]
    wanted: bool
    num_runs: int
    job_id: int | None


SELECT_CHAIN = select_values(chain, Chain)
SELECT_STAGE = select_values(stage, Stage)


def create(session: Session, name: str, stages: Sequence[NewStage] = (), *, going: bool = False) -> Chain:
    """Makes a chain of these stages, all of them to be run."""
    values = {"name": name, "going": going, "created_at": now()}
    made = to_value(Chain, session.execute(insert(chain).values(values).returning(*columns(chain, Chain))).one())
    for new in stages:
        add_stage(session, made.id, new)
    return made


def get(session: Session, chain_id: int) -> Chain:
    """The chain; NotFound where there is none."""
    row = session.execute(SELECT_CHAIN.where(chain.c.id == chain_id)).one_or_none()
    if row is None:
        raise NotFound("chain", chain_id)
    return to_value(Chain, row)


def named(session: Session, name: str) -> Chain:
    """The newest chain of a name; NotFound where there is none."""
    newest = SELECT_CHAIN.where(chain.c.name == name).order_by(chain.c.id.desc()).limit(1)
    row = session.execute(newest).one_or_none()
    if row is None:
        raise NotFound("chain", name)
    return to_value(Chain, row)


def listing(session: Session, *, limit: int = 200) -> list[Chain]:
    """Chains, newest first."""
    return to_values(Chain, session.execute(SELECT_CHAIN.order_by(chain.c.id.desc()).limit(limit)))


def stages(session: Session, chain_id: int) -> list[Stage]:
    """The stages of a chain, first to last."""
    return to_values(Stage, session.execute(SELECT_STAGE.where(stage.c.chain_id == chain_id).order_by(stage.c.place)))


def stage_by_id(session: Session, stage_id: int) -> Stage:
    """The stage; NotFound where there is none."""
    row = session.execute(SELECT_STAGE.where(stage.c.id == stage_id)).one_or_none()
    if row is None:
        raise NotFound("stage", stage_id)
    return to_value(Stage, row)


def lock(session: Session, chain_id: int) -> Chain:
    """The chain, which nobody else changes until the end of the transaction; NotFound where there is none."""
    row = session.execute(SELECT_CHAIN.where(chain.c.id == chain_id).with_for_update()).one_or_none()
    if row is None:
        raise NotFound("chain", chain_id)
    return to_value(Chain, row)


def lock_stage(session: Session, stage_id: int) -> Stage:
    """The stage, its chain locked."""
    lock(session, stage_by_id(session, stage_id).chain_id)
    return stage_by_id(session, stage_id)


def add_stage(session: Session, chain_id: int, new: NewStage) -> Stage:
    """Puts a stage behind the others, to be run. Conflict where the name is taken or there are too many."""
    lock(session, chain_id)
    others = stages(session, chain_id)
    _must_be_free(others, new.name)
    if len(others) >= MOST_STAGES:
        raise Conflict("chain_too_long", {"most": MOST_STAGES})
    values = {"chain_id": chain_id, "place": len(others), "name": new.name, "spec": new.spec, "wanted": True}
    return to_value(Stage, session.execute(insert(stage).values(values).returning(*columns(stage, Stage))).one())


def change_stage(session: Session, stage_id: int, spec: dict[str, Any]) -> Stage:
    """Gives a stage other settings, for its next run. Conflict while it waits in the queue or runs."""
    before = lock_stage(session, stage_id)
    must_rest(session, before)
    return put(session, before.id, spec=spec)


def move_stage(session: Session, stage_id: int, place: int) -> None:
    """Puts a stage to another place among the others. Conflict while a stage of the chain is in the queue or runs."""
    moved = lock_stage(session, stage_id)
    others = stages(session, moved.chain_id)
    for one in others:
        must_rest(session, one)
    order = [one.id for one in others if one.id != stage_id]
    order.insert(min(max(place, 0), len(order)), stage_id)
    _number(session, order)


def remove_stage(session: Session, stage_id: int) -> None:
    """Takes a stage out; its runs stay. Conflict while it waits in the queue or runs."""
    gone = lock_stage(session, stage_id)
    must_rest(session, gone)
    session.execute(delete_from(stage).where(stage.c.id == stage_id))
    _number(session, [one.id for one in stages(session, gone.chain_id)])


def delete(session: Session, chain_id: int) -> None:
    """Forgets a chain; its runs stay, also one that is under way."""
    lock(session, chain_id)
    session.execute(delete_from(chain).where(chain.c.id == chain_id))


def put(session: Session, stage_id: int, **values: Any) -> Stage:
    """Changes a stage whose chain the caller has locked."""
    changed = update(stage).where(stage.c.id == stage_id).values(values).returning(*columns(stage, Stage))
    return to_value(Stage, session.execute(changed).one())


def must_rest(session: Session, one: Stage) -> None:
    """Refuses while the stage's run has not ended."""
    open_ = (job.c.id == one.job_id, job.c.state.not_in(FINAL))
    if session.execute(select(func.count()).where(*open_)).scalar_one():
        raise Conflict("stage_under_way", {"name": one.name, "id": one.job_id})


def _must_be_free(others: Sequence[Stage], name: str) -> None:
    if any(one.name == name for one in others):
        raise Conflict("stage_name_taken", {"name": name})


def _number(session: Session, order: Sequence[int]) -> None:
    for place, stage_id in enumerate(order):
        session.execute(update(stage).where(stage.c.id == stage_id).values(place=place))
