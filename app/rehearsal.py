"""The rehearsal: the whole path on the sample tickets and the starter model, sized for a laptop without a GPU."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from app import starter, submission, uploads
from app.ui import Ui
from engine.specs.problem import ProblemError, problem
from engine.specs.starter import STARTER
from storage import datasets, jobs
from storage.errors import NotFound
from storage.jobs import Job
from storage.states import FINAL, State

DATASET = "tickets"
NAME = "rehearsal"
OPEN = (State.QUEUED, State.RUNNING)
POLL_S = 0.25
PATIENCE_S = 180.0

# Under three minutes on two slow cores: most of one pass over the tickets, in steps of 4 short rows.
SPEC: dict[str, Any] = {
    "name": NAME,
    "seed": 7,
    "model": {"id": STARTER, "quantization": "none"},
    "data": {"dataset": DATASET, "eval_fraction": 0.05, "max_length": 256},
    "objective": {"kind": "sft"},
    "tuner": {"kind": "lora", "rank": 16},
    "training": {
        "epochs": 2,
        "max_steps": 36,
        "batch_size": 4,
        "gradient_accumulation": 1,
        "eval_every_steps": 18,
        "save_every_steps": 18,
    },
}


@dataclass(frozen=True, slots=True)
class Progress:
    """Where the preparation stands: a code for the sentence `rehearsal.<code>`, and the run once it is queued."""

    code: str
    job: Job | None = None


def begin(ui: Ui) -> Iterator[Progress]:
    """Bring in the model and the sample where they are missing, then queue the run; a second click finds it.

    Raises:
        ProblemError: a preparation failed, or nobody is doing it.
    """
    with ui.store.read() as session:
        running = under_way(session)
    if running is not None:
        yield Progress("queued", running)
        return
    for code, preparation in (("model", _starter(ui)), ("data", _sample(ui))):
        if preparation is not None:
            yield Progress(code)
            _wait(ui, preparation.id)
    with ui.store.write() as session:  # one writer at a time: of two clicks the second finds the first one's run
        job = under_way(session) or submission.submit(session, submission.prepare(session, SPEC))
    yield Progress("queued", job)


def under_way(session: Session) -> Job | None:
    """Return the rehearsal that waits or runs."""
    runs = jobs.listing(session, kinds=["train"], states=OPEN)
    return next((job for job in runs if job.spec.get("name") == NAME), None)


def _starter(ui: Ui) -> Job | None:
    with ui.store.write() as session:
        return starter.ask_for(session)


def _sample(ui: Ui) -> Job | None:
    try:
        with ui.store.read() as session:
            datasets.get(session, DATASET)
            return None
    except NotFound:
        with ui.store.read() as session:
            imports = jobs.listing(session, kinds=["import"], states=OPEN)
        known = next((job for job in imports if job.name == DATASET), None)
        return known or uploads.take_in(ui, uploads.Upload([uploads.SAMPLES / f"{DATASET}.jsonl"], DATASET))


def _wait(ui: Ui, job_id: int) -> None:
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        with ui.store.read() as session:
            job = jobs.get(session, job_id)
        if job.state == State.SUCCEEDED:
            return
        if job.state in FINAL:
            raise ProblemError([problem("rehearsal_failed", name=job.name, reason=ui.reason(job.reason, job.values))])
        time.sleep(POLL_S)
    raise ProblemError([problem("rehearsal_waits")])
