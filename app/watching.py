"""Jobs that a page waits for: shown until a person has seen how they ended, whatever is reloaded meanwhile."""

from __future__ import annotations

from sqlalchemy.orm import Session

from storage import drafts, jobs
from storage.errors import NotFound
from storage.jobs import Job
from storage.states import FINAL

MOST_WATCHED = 5


def watch(session: Session, page: str, job_id: int) -> None:
    """Show a job on a page."""
    content = drafts.get(session, page, for_change=True)
    others = [known for known in content.get("watched", []) if known != job_id]
    drafts.put(session, page, {**content, "watched": [*others, job_id][-MOST_WATCHED:]})


def watched(session: Session, page: str) -> list[Job]:
    """Return the jobs that a page shows, newest first."""
    found = []
    for job_id in reversed(drafts.get(session, page).get("watched", [])):
        try:
            found.append(jobs.get(session, job_id))
        except NotFound:
            continue
    return found


def put_away(session: Session, page: str) -> None:
    """Stop showing the jobs that have ended."""
    content = drafts.get(session, page, for_change=True)
    still = [job.id for job in reversed(watched(session, page)) if job.state not in FINAL]
    drafts.put(session, page, {**content, "watched": still})


def cancel(session: Session, page: str) -> None:
    """Cancel the jobs of a page that wait or run."""
    for job in watched(session, page):
        if job.state not in FINAL:
            jobs.cancel(session, job.id)
