"""Trials: two measured steps of exactly the run that the form describes."""

from __future__ import annotations

import hashlib
import json

from sqlalchemy.orm import Session

from engine.specs.job import JobSpec
from engine.specs.kinds import KINDS
from engine.specs.other import TrialSpec
from storage import jobs
from storage.jobs import Job, SubmitOptions
from storage.states import FINAL, State

OPEN = (State.QUEUED, State.RUNNING)


def fingerprint(spec: JobSpec) -> str:
    """Return what two runs share that differ only in name: they take the same time and memory."""
    data = spec.model_dump(mode="json", exclude={"name"})
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def find(session: Session, spec: JobSpec) -> Job | None:
    """Return the newest trial of exactly this run."""
    wanted = fingerprint(spec)
    return next((job for job in _all(session) if _print_of(job) == wanted), None)


def measure(session: Session, spec: JobSpec) -> Job:
    """Queue a trial, unless one of exactly this run waits, runs or has measured."""
    known = find(session, spec)
    if known is not None and (known.state not in FINAL or known.state == State.SUCCEEDED):
        return known
    tries = known.id if known else 0
    options = SubmitOptions(idempotency_key=f"trial-{fingerprint(spec)}-{tries}", max_attempts=1)
    trial = TrialSpec(run=spec.model_dump(mode="json"))
    lane = KINDS["trial"].lane
    return jobs.submit(
        session, kind="trial", name=spec.name, spec=trial.model_dump(mode="json"), lane=lane, options=options
    )


def cancel_all(session: Session) -> None:
    """Cancel the trials that wait or run: a run that starts needs their place."""
    for job in jobs.listing(session, kinds=["trial"], states=OPEN):
        jobs.cancel(session, job.id)


def _all(session: Session) -> list[Job]:
    return jobs.listing(session, kinds=["trial"], limit=100)


def _print_of(job: Job) -> str:
    data = {key: value for key, value in job.spec.get("run", {}).items() if key != "name"}
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()
