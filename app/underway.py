"""Work on a dataset that goes on: how far it is."""

from __future__ import annotations

from app.render import Html, bar, join, tag
from storage.jobs import Job
from storage.states import State


def progress(job: Job, *, waits: str, works: str) -> Html:
    """Return how far a job is; `waits` and `works` are the sentences for it."""
    return moving(job, waits if job.state == State.QUEUED else works)


def moving(job: Job, said: str) -> Html:
    """Return how far a job is, with a sentence for it."""
    total = job.progress_total
    share = job.progress_step / total if job.progress_step is not None and total else None
    return join([bar(share, label=job.name), tag("p", said, cls="at-soft at-small")])
