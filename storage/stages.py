"""What runs of a chain: each stage as a job of its own, submitted when the stage before it is done."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_, exists, or_, select, update
from sqlalchemy.orm import Session

from storage import chains, checkpoints, jobs, targets
from storage.chains import Chain, Stage, chain, stage
from storage.checkpoints import checkpoint
from storage.errors import Conflict, NotFound
from storage.job_values import SELECT_JOB, Job, job
from storage.jobs import SubmitOptions
from storage.rows import to_values
from storage.states import FINAL, State

KIND, LANE = "train", "gpu"
LONGEST_NAME = 120
PLACE = ("id", "revision", "start_from")
"""What of a run's model follows from where its stage stands."""

before = stage.alias()
READY = and_(
    chain.c.id == stage.c.chain_id,
    chain.c.going.is_(True),
    stage.c.wanted.is_(True),
    or_(
        stage.c.place == 0,
        exists().where(
            before.c.chain_id == stage.c.chain_id,
            before.c.place == stage.c.place - 1,
            before.c.wanted.is_(False),
            before.c.job_id == job.c.id,
            job.c.state == State.SUCCEEDED,
            checkpoint.c.job_id == job.c.id,
        ),
    ),
)
ANY_READY = select(chain.c.id).where(READY).distinct()


@dataclass(frozen=True, slots=True)
class Standing:
    """A stage with its newest run."""

    stage: Stage
    job: Job | None
    outdated: bool
    """Whether another run would differ: its settings or what it starts from have changed since."""
    has_result: bool
    """Whether there is something that the next one can start from."""

    @property
    def state(self) -> str:
        """`waiting` to be submitted, `deleted` with its run, else the state of its run."""
        if self.stage.wanted:
            return "waiting"
        return "deleted" if self.job is None else str(self.job.state)


def standings(session: Session, chain_id: int) -> list[Standing]:
    """How the stages of a chain stand, first to last."""
    found: list[Standing] = []
    for one in chains.stages(session, chain_id):
        run = None if one.job_id is None else jobs.get(session, one.job_id)
        former = found[-1] if found else None
        result = None if run is None else checkpoints.best(session, run.id)
        found.append(Standing(one, run, run is not None and _is_outdated(one, run, former), result is not None))
    return found


def state_of(one: Chain, found: Sequence[Standing]) -> str:
    """How a chain stands as a whole.

    `empty`, `draft` (never begun), `running`, `paused`, `done`, `stopped` (by a person), or `blocked` by a stage that
    failed, was cancelled or deleted, or left nothing to start from.
    """
    if not found:
        return "empty"
    open_ = [item.job for item in found if item.job is not None and item.job.state not in FINAL]
    if open_:
        return "paused" if all(item.held for item in open_) else "running"
    if all(item.state == State.SUCCEEDED for item in found):
        return "done"
    if not one.going:
        return "stopped" if any(item.stage.num_runs for item in found) else "draft"
    formers: list[Standing | None] = [None, *found[:-1]]
    begins = any(item.stage.wanted and _is_done(former) for former, item in zip(formers, found, strict=True))
    return "running" if begins else "blocked"


def _is_done(former: Standing | None) -> bool:
    return former is None or (former.state == State.SUCCEEDED and former.has_result)


def runs(session: Session, stage_id: int) -> list[Job]:
    """All runs of a stage that are still there, first to last."""
    of_stage = job.c.idempotency_key.startswith(_key(stage_id, ""), autoescape=True)
    return to_values(Job, session.execute(SELECT_JOB.where(of_stage).order_by(job.c.id)))


def ready(session: Session) -> list[int]:
    """The chains in which a stage can be submitted: a cheap read for a loop."""
    return list(session.execute(ANY_READY).scalars())


def advance(session: Session, chain_id: int) -> list[Job]:
    """Submits every stage of a going chain whose turn it is, and returns those jobs.

    In one transaction under the chain's lock: whoever comes second finds nothing to do, and a kill leaves nothing half.
    """
    one = chains.lock(session, chain_id)
    due = session.execute(select(stage.c.id).where(READY, chain.c.id == chain_id).order_by(stage.c.place)).scalars()
    return [_submit(session, one, stage_id) for stage_id in list(due)]


def start(session: Session, chain_id: int) -> list[Job]:
    """Lets a chain go on by itself: a held run is released, and what can begin begins."""
    chains.lock(session, chain_id)
    if not chains.stages(session, chain_id):
        raise Conflict("chain_empty", {"id": chain_id})
    session.execute(update(chain).where(chain.c.id == chain_id).values(going=True))
    for item in standings(session, chain_id):
        if item.job is not None and item.job.state == State.QUEUED:
            jobs.resume(session, item.job.id)
    return advance(session, chain_id)


def stop(session: Session, chain_id: int) -> None:
    """Begins no further stage; a run under way saves what it has and ends, one that waits is held."""
    rest(session, chain_id)
    for item in standings(session, chain_id):
        if item.job is not None and item.job.state == State.RUNNING:
            jobs.stop_and_keep(session, item.job.id)
        elif item.job is not None and item.job.state == State.QUEUED:
            jobs.hold(session, item.job.id)


def rest(session: Session, chain_id: int) -> None:
    """Begins no further stage until it is told to; what runs goes on."""
    chains.lock(session, chain_id)
    session.execute(update(chain).where(chain.c.id == chain_id).values(going=False))


def repeat(session: Session, stage_id: int, *, following: bool = False) -> list[Job]:
    """Runs a stage anew, with `following` all later ones after it; its earlier runs stay. The chain goes on.

    Conflict while one of these stages waits in the queue or runs.
    """
    first = chains.lock_stage(session, stage_id)
    later = [one for one in chains.stages(session, first.chain_id) if one.place > first.place]
    for one in (first, *(later if following else ())):
        chains.must_rest(session, one)
        chains.put(session, one.id, wanted=True)
    return start(session, first.chain_id)


def settings(spec: dict[str, Any]) -> dict[str, Any]:
    """What of a run's spec is its own, wherever its stage stands."""
    model = {name: value for name, value in (spec.get("model") or {}).items() if name not in PLACE}
    return {**{name: value for name, value in spec.items() if name != "name"}, "model": model}


def _is_outdated(one: Stage, run: Job, former: Standing | None) -> bool:
    if settings(run.spec) != settings(one.spec):
        return True
    if former is None:
        return False
    origin = str(run.spec["model"].get("start_from") or "").partition("@")[0]
    moved_on = former.job is not None and origin != str(former.job.id)
    return moved_on or former.outdated


def _submit(session: Session, one: Chain, stage_id: int) -> Job:
    due = chains.stage_by_id(session, stage_id)
    spec = copy.deepcopy(due.spec)
    spec["name"] = f"{one.name} · {due.name}"[:LONGEST_NAME]
    parent_id = _start_from_former(session, due, spec) if due.place else _keep_start(session, spec)
    options = SubmitOptions(
        _key(due.id, due.num_runs + 1), max_attempts=spec["resources"]["max_attempts"], parent_id=parent_id
    )
    made = jobs.submit(session, kind=KIND, name=spec["name"], spec=spec, lane=LANE, options=options)
    chains.put(session, due.id, wanted=False, num_runs=due.num_runs + 1, job_id=made.id)
    return made


def _start_from_former(session: Session, due: Stage, spec: dict[str, Any]) -> int:
    """Names the result of the stage before in the spec, and keeps it."""
    former = chains.stages(session, due.chain_id)[due.place - 1]
    assert former.job_id is not None
    result = targets.resolve(session, str(former.job_id))
    assert result.step is not None
    checkpoints.pin(session, former.job_id, result.step)
    model = jobs.get(session, former.job_id).spec["model"]
    spec["model"] |= {"id": model["id"], "revision": model.get("revision"), "start_from": result.text}
    return former.job_id


def _keep_start(session: Session, spec: dict[str, Any]) -> int | None:
    """Keeps what the first stage starts from; where that is gone by now, the run itself says so."""
    text = spec["model"].get("start_from")
    if text is None:
        return None
    try:
        found = targets.resolve(session, text)
    except (NotFound, Conflict):
        return None
    assert found.job_id is not None and found.step is not None
    checkpoints.pin(session, found.job_id, found.step)
    return found.job_id


def _key(stage_id: int, run: int | str) -> str:
    return f"stage-{stage_id}-{run}"
