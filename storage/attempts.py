"""What a worker and its child do on behalf of an attempt: claim, renew, report, settle; and the rescue of lost ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from sqlalchemy import BindParameter, ColumnElement, and_, bindparam, case, delete, func, insert, or_, select, update
from sqlalchemy.orm import Session

from storage.claims import Claim, Flags, Holder, guard
from storage.clock import now
from storage.errors import Fenced
from storage.job_values import ONE_JOB, QUEUE_ORDER, SELECT_JOB, Job, attempt, job, move, record
from storage.rows import columns, table_of, to_value, to_values
from storage.states import FINAL, State
from storage.tables import MetricRow, SampleRow

metric, sample = table_of(MetricRow), table_of(SampleRow)
LOST = "lost"
"""How an attempt ends that was taken from its holder."""
REQUEUE: Literal["requeue"] = "requeue"
RELEASED: dict[str, Any] = {
    "owner": None,
    "owner_host": None,
    "owner_boot": None,
    "pid": None,
    "pid_start": None,
    "lease_until": None,
    "phase": None,
    "cancel_requested_at": None,
    "pause_requested_at": None,
}
NO_REASON: dict[str, Any] = {"reason": None, "values": {}, "message": None}


@dataclass(frozen=True, slots=True)
class Settlement:
    """How an attempt ended."""

    state: State | Literal["requeue"]
    reason: str | None = None
    values: dict[str, Any] = field(default_factory=dict)
    """What the sentence of the reason names."""
    message: str | None = None
    """The technical tail, for the log."""
    exit_code: int | None = None
    signal: int | None = None
    result: dict[str, Any] | None = None
    run_after_s: float | None = None
    held: bool = False
    counts: bool = True
    """False where the stop was asked for: the budget of attempts is not touched."""


LANES: BindParameter[Any] = bindparam("lanes", expanding=True)
DUE = or_(job.c.run_after.is_(None), job.c.run_after <= now())
CLAIMABLE = and_(job.c.state == State.QUEUED, job.c.held.is_(False), job.c.lane.in_(LANES), DUE)
ANY_CLAIMABLE = select(job.c.id).where(CLAIMABLE).limit(1)
WAITING = SELECT_JOB.where(CLAIMABLE).order_by(*QUEUE_ORDER).limit(bindparam("limit"))
BEST = select(job.c.id).where(CLAIMABLE).order_by(*QUEUE_ORDER).limit(1)
HELD = and_(job.c.id == bindparam("id"), job.c.token == bindparam("held_token"), job.c.state == State.RUNNING)
WISHES = select(
    job.c.cancel_requested_at, job.c.pause_requested_at, job.c.stop_requested_at, job.c.progress_step, job.c.progress_at
).where(HELD)


def claimable(session: Session, *, lanes: Sequence[str]) -> bool:
    """Whether a claim would find a job: a cheap read for a loop, so that only a real claim takes the write lock."""
    return session.execute(ANY_CLAIMABLE, {"lanes": list(lanes)}).first() is not None


def waiting(session: Session, *, lanes: Sequence[str], limit: int = 20) -> list[Job]:
    """The jobs that a claim would take, best first: a worker looks which of them it can do."""
    return to_values(Job, session.execute(WAITING, {"lanes": list(lanes), "limit": limit}))


def claim(
    session: Session, worker: Holder, *, lanes: Sequence[str], lease_s: float, only: Sequence[int] | None = None
) -> tuple[Claim, Job] | None:
    """Takes the best waiting job of these lanes, in one guarded statement; None when there is none.

    With `only`, one of these jobs: those that the worker's host can do.
    """
    candidates = BEST if only is None else BEST.where(job.c.id.in_(only))
    best = candidates.with_for_update(skip_locked=True).params(lanes=list(lanes)).scalar_subquery()
    values = {
        **NO_REASON,
        "state": State.RUNNING,
        "token": job.c.token + 1,
        "attempt": job.c.attempt + 1,
        "owner": worker.owner,
        "owner_host": worker.host,
        "owner_boot": worker.boot_id,
        "lease_until": now() + lease_s,
        "run_after": None,
        "progress_at": now(),
        "started_at": func.coalesce(job.c.started_at, now()),
    }
    waiting = (job.c.id == best, job.c.state == State.QUEUED)
    statement = update(job).where(*waiting).values(values).returning(*columns(job, Job))
    row = session.execute(statement).one_or_none()
    if row is None:
        return None
    taken = to_value(Job, row)
    _open_attempt(session, taken, worker)
    return Claim(taken.id, taken.attempt, taken.token), taken


def started(session: Session, claim: Claim, *, pid: int, pid_start: float | None) -> None:
    """Writes down the child process of the attempt, so that a rescue can prove it dead."""
    guard(session, claim, pid=pid, pid_start=pid_start)
    session.execute(update(attempt).where(_of(claim)).values(pid=pid))
    record(session, claim.job_id, token=claim.token, kind="started", data={"pid": pid})


def renew(session: Session, claim: Claim, *, lease_s: float) -> Flags:
    """Prolongs the lease; returns what a person asked for meanwhile."""
    guard(session, claim, lease_until=now() + lease_s)
    return flags(session, claim)


def flags(session: Session, claim: Claim) -> Flags:
    """What a person asked of the running job; Fenced when the claim no longer holds."""
    row = session.execute(WISHES, {"id": claim.job_id, "held_token": claim.token}).one_or_none()
    if row is None:
        raise Fenced("job", claim.job_id, claim.token)
    cancel, pause, stop = (wish is not None for wish in row[:3])
    return Flags(cancel, pause, stop, step=row.progress_step, progress_at=row.progress_at)


def progress(
    session: Session, claim: Claim, *, phase: str | None = None, step: int | None = None, total: int | None = None
) -> None:
    """Reports the phase and the step. Only a change counts as progress: a heartbeat over a hung loop does not."""
    given = {"phase": phase, "progress_step": step, "progress_total": total}
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    moved = [job.c[name].is_distinct_from(value) for name, value in changes.items() if name != "progress_total"]
    if moved:
        changes["progress_at"] = case((or_(*moved), now()), else_=job.c.progress_at)
    guard(session, claim, **changes)


def beat(session: Session, claim: Claim) -> None:
    """Says that the attempt moves, where neither phase nor step do: long tokenising, an evaluation, an answer."""
    guard(session, claim, progress_at=now())


def override(session: Session, claim: Claim, overrides: dict[str, Any]) -> None:
    """Records what the attempt does otherwise than the spec."""
    guard(session, claim)
    session.execute(update(attempt).where(_of(claim)).values(overrides=overrides))
    record(session, claim.job_id, token=claim.token, kind="batch_made_smaller", data=overrides)


def resumed(session: Session, claim: Claim, step: int) -> None:
    """Records the step that the attempt goes on from, and cuts the curves and samples past it."""
    guard(session, claim, metric_generation=job.c.metric_generation + 1, progress_step=step)
    session.execute(update(attempt).where(_of(claim)).values(resumed_from_step=step))
    session.execute(delete(metric).where(metric.c.job_id == claim.job_id, metric.c.step > step))
    session.execute(delete(sample).where(sample.c.job_id == claim.job_id, sample.c.step > step))
    record(session, claim.job_id, token=claim.token, kind="resumed", data={"step": step})


def event(session: Session, claim: Claim, kind: str, data: dict[str, Any]) -> None:
    """Records something that the attempt met."""
    guard(session, claim)
    record(session, claim.job_id, token=claim.token, kind=kind, data=data)


def settle(session: Session, claim: Claim, settlement: Settlement) -> Job:
    """Ends the attempt: a final state, or back to the queue.

    A requeue becomes `cancelled` where a person has asked for that, and `failed` where the budget is used up.
    It may be repeated when the reply to the commit was lost: an attempt that has ended in just this way stays as it
    is, and the job is returned as it stands by now. Fenced where the attempt ended otherwise.
    """
    held = (job.c.id == claim.job_id, job.c.token == claim.token)
    settled = _end(session, *held, settlement=settlement, outcome=_outcome(settlement))
    if settled is not None:
        return settled
    if not _has_ended_so(session, claim, settlement):
        raise Fenced("job", claim.job_id, claim.token)
    return to_value(Job, session.execute(ONE_JOB, {"id": claim.job_id}).one())


def expired(session: Session, *, grace_s: float) -> list[Job]:
    """The running jobs whose lease ran out more than the grace ago; no other has one (a constraint)."""
    late = job.c.lease_until < now() - grace_s
    return to_values(Job, session.execute(SELECT_JOB.where(late).order_by(job.c.id)))


def rescue(session: Session, job_id: int, token: int, *, requeue: bool, run_after_s: float | None = None) -> Job:
    """Takes a job from a holder that the caller has proved lost. Fenced when it moved on."""
    gone = (job.c.id == job_id, job.c.token == token)
    lost = Settlement(REQUEUE if requeue else State.FAILED, reason="lost", run_after_s=run_after_s)
    rescued = _end(session, *gone, settlement=lost, outcome=LOST)
    if rescued is None:
        raise Fenced("job", job_id, token)
    return rescued


def _outcome(settlement: Settlement) -> str:
    return (settlement.reason or "requeued") if settlement.state == REQUEUE else str(settlement.state)


def _end(session: Session, *where: ColumnElement[bool], settlement: Settlement, outcome: str) -> Job | None:
    running = session.execute(SELECT_JOB.where(job.c.state == State.RUNNING, *where).with_for_update()).one_or_none()
    if running is None:
        return None
    before = to_value(Job, running)
    target, values = _destination(before, settlement)
    values = {**RELEASED, "result": settlement.result, "message": settlement.message, **values}
    if target in FINAL:
        values |= {"finished_at": now(), "stop_requested_at": None, "held": False, "run_after": None}
    after = move(session, before, target, values)
    _close_attempt(session, after, settlement, outcome)
    return after


def _has_ended_so(session: Session, claim: Claim, settlement: Settlement) -> bool:
    """Whether the attempt was settled with this outcome, exit code and signal; a rescue knows neither of the two."""
    outcome = _outcome(settlement)
    if outcome == LOST and settlement.exit_code is None and settlement.signal is None:
        return False
    same = (
        attempt.c.outcome == outcome,
        attempt.c.exit_code.is_not_distinct_from(settlement.exit_code),
        attempt.c.signal.is_not_distinct_from(settlement.signal),
    )
    return session.execute(select(attempt.c.token).where(_of(claim), *same)).first() is not None


def _destination(before: Job, settlement: Settlement) -> tuple[State, dict[str, Any]]:
    """Where the job goes, with what that writes."""
    reason = {"reason": settlement.reason, "values": settlement.values}
    if settlement.state != REQUEUE:
        return State(settlement.state), reason
    if before.cancel_requested_at is not None:
        return State.CANCELLED, {"reason": "cancelled", "values": {}}
    if settlement.counts and before.attempt - before.granted >= before.max_attempts:
        return State.FAILED, {**reason, "deaths": before.deaths + 1}
    budget = {"deaths": before.deaths + 1} if settlement.counts else {"granted": before.granted + 1}
    held = settlement.held or before.pause_requested_at is not None
    after = None if settlement.run_after_s is None else now() + settlement.run_after_s
    return State.QUEUED, {**reason, **budget, "held": held, "run_after": after}


def _open_attempt(session: Session, taken: Job, worker: Holder) -> None:
    row = {"job_id": taken.id, "token": taken.token, "attempt": taken.attempt, "host": worker.host, "started_at": now()}
    session.execute(insert(attempt).values(row))
    data = {"state": State.RUNNING, "attempt": taken.attempt, "owner": worker.owner, "host": worker.host}
    record(session, taken.id, token=taken.token, kind="claimed", data=data)


def _close_attempt(session: Session, after: Job, settlement: Settlement, outcome: str) -> None:
    ended = {"ended_at": now(), "outcome": outcome, "exit_code": settlement.exit_code, "signal": settlement.signal}
    here = (attempt.c.job_id == after.id, attempt.c.token == after.token)
    session.execute(update(attempt).where(*here).values(ended))
    data = {"state": after.state, "held": after.held, "outcome": outcome}
    data |= {"reason": after.reason, "values": after.values}
    record(session, after.id, token=after.token, kind="settled", data=data)


def _of(claim: Claim) -> ColumnElement[bool]:
    return and_(attempt.c.job_id == claim.job_id, attempt.c.token == claim.token)
