"""Work on a dataset that goes on: how far it is."""

from __future__ import annotations

from app.render import Html, bar, join, tag
from storage.jobs import Job
from storage.states import State


def progress(job: Job, *, waits: str, works: str) -> Html:
    """Return how far a job is; `waits` and `works` are the sentences for it."""
    total = job.progress_total
    share = job.progress_step / total if job.progress_step is not None and total else None
    said = tag("p", waits if job.state == State.QUEUED else works, cls="at-soft at-small")
    return join([bar(share, label=job.name), said])
