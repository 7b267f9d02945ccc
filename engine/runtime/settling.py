"""From an ended child to what the store is told."""

from __future__ import annotations

import json
from typing import Any

from engine.runtime import logs
from engine.runtime.outcome import Kind, Outcome, outcome_of
from engine.runtime.settings import Settings
from engine.specs.home import Home
from storage.jobs import Claim, Job, Settlement
from storage.states import State


def settlement_of(home: Home, job: Job, claim: Claim, code: int, *, ending: bool, settings: Settings) -> Settlement:
    """What to settle. `ending`: the worker itself was asked to end."""
    outcome = outcome_of(code, _marker(home, claim))
    how: dict[str, Any] = {"exit_code": outcome.exit_code, "signal": outcome.signal}
    if outcome.kind is Kind.FENCED:  # the token decides: if the claim is really gone, the store refuses this
        return Settlement("requeue", reason="lost", run_after_s=settings.backoff_s, **how)
    if outcome.kind is Kind.DONE:
        return Settlement(
            State.SUCCEEDED,
            reason=outcome.reason,
            values=dict(outcome.values),
            result=dict(outcome.result or {}),
            **how,
        )
    if outcome.kind is Kind.STOPPED or (outcome.kind is Kind.LOST and ending):
        return Settlement("requeue", reason="stopped", counts=False, **how)
    if outcome.kind is Kind.LOST:
        pause = settings.backoff_s * 2**job.deaths
        return Settlement("requeue", reason=outcome.reason, values=dict(outcome.values), run_after_s=pause, **how)
    return _failed(home, job, outcome, how)


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
