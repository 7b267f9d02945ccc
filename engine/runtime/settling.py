"""From an ended child to what the store is told."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from engine.advice.memory import remedies
from engine.runtime import backoff, logs, space
from engine.runtime.memory import batch_after
from engine.runtime.outcome import Exit, Kind, Outcome, outcome_of
from engine.runtime.settings import Settings
from engine.specs.home import Home
from engine.specs.job import parse
from engine.specs.kinds import KINDS
from storage.jobs import Attempt, Claim, Job, Settlement
from storage.states import State

REMEDY_ELSEWHERE = "memory_elsewhere"
"""What helps a job that has no settings to change."""


@dataclass(frozen=True, slots=True)
class End:
    """How a child ended, as the worker saw it."""

    code: int
    """`Popen`'s: negative for a signal."""
    ending: bool = False
    """The worker itself was asked to end."""
    out_of_memory: bool = False
    """The kernel's count of processes ended for want of memory moved while the child lived."""
    silent_s: float | None = None
    """For how long it had been silent when the worker ended it; None where it did not."""


def settlement_of(
    home: Home, job: Job, claim: Claim, end: End, *, history: Sequence[Attempt], settings: Settings
) -> Settlement:
    """What to settle. `history` are the job's attempts up to this one."""
    outcome = _seen(outcome_of(end.code, _marker(home, claim)), end)
    how: dict[str, Any] = {"exit_code": outcome.exit_code, "signal": outcome.signal}
    if outcome.kind is Kind.FENCED:  # the token decides: if the claim is really gone, the store refuses this
        pause = backoff.pause_s(job.deaths, backoff_s=settings.backoff_s)
        return Settlement("requeue", reason="lost", run_after_s=pause, **how)
    if outcome.kind is Kind.DONE:
        return Settlement(
            State.SUCCEEDED,
            reason=outcome.reason,
            values=dict(outcome.values),
            result=dict(outcome.result or {}),
            **how,
        )
    if outcome.kind is Kind.STOPPED or (outcome.kind is Kind.LOST and end.ending):
        return Settlement("requeue", reason="stopped", counts=False, **how)
    if outcome.kind is Kind.LOST:
        pause = backoff.pause_s(job.deaths, backoff_s=settings.backoff_s)
        return Settlement("requeue", reason=outcome.reason, values=dict(outcome.values), run_after_s=pause, **how)
    if outcome.reason == "out_of_memory":
        return _out_of_memory(home, job, outcome, history, how)
    if outcome.reason == space.DISK_FULL and KINDS[job.kind].resumes:
        values = space.shortage(home, job.id, outcome.values)
        pause = backoff.pause_s(space.times_full(history[:-1]), backoff_s=settings.backoff_s)
        return Settlement("requeue", reason=outcome.reason, values=values, counts=False, run_after_s=pause, **how)
    return _failed(home, job, outcome, how)


def _seen(outcome: Outcome, end: End) -> Outcome:
    """What the worker saw tells more than the signal that ended the child."""
    if outcome.kind is not Kind.LOST:
        return outcome
    if end.silent_s is not None:
        return replace(outcome, kind=Kind.FAILED, reason="stalled", values={"seconds": round(end.silent_s)})
    if end.out_of_memory and outcome.values.get("signal") == "SIGKILL":
        return replace(outcome, kind=Kind.FAILED, exit_code=int(Exit.OUT_OF_MEMORY), reason="out_of_memory", values={})
    return outcome


def _out_of_memory(
    home: Home, job: Job, outcome: Outcome, history: Sequence[Attempt], how: dict[str, Any]
) -> Settlement:
    """Tried again with a smaller batch, never unchanged; where none is left or wanted, with the cheapest remedy."""
    told = job.spec.get("run", job.spec)  # a trial holds the run that it tries
    if "training" not in told:
        return _failed(home, job, replace(outcome, values={"remedy": REMEDY_ELSEWHERE}), how)
    spec = parse(told)
    least = spec.objective.needs().least_batch
    batch = batch_after(told["training"], history, least=least)
    smaller = batch.smaller(least)
    if smaller is not None and spec.resources.on_oom == "halve" and KINDS[job.kind].resumes:
        return Settlement("requeue", reason=outcome.reason, values=smaller.as_overrides(), counts=False, **how)
    cheapest = remedies(spec, batch.size)[0]
    values = {"batch_size": batch.size, "remedy": cheapest.code, **cheapest.values, "changes": cheapest.value}
    return _failed(home, job, replace(outcome, values=values), how)


def _failed(home: Home, job: Job, outcome: Outcome, how: dict[str, Any]) -> Settlement:
    result = dict(outcome.result) if outcome.result else None
    message = logs.tail(home.log(job.id))
    return Settlement(
        State.FAILED, reason=outcome.reason, values=dict(outcome.values), message=message, result=result, **how
    )


def _marker(home: Home, claim: Claim) -> dict[str, Any] | None:
    path = home.runs / str(claim.job_id) / str(claim.token) / "result.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
