"""The run behind a job: a merge has none of its own, but those of what was merged."""

from __future__ import annotations

from sqlalchemy.orm import Session

from engine.specs.base import validate
from engine.specs.job import JobSpec, parse
from engine.specs.kinds import KINDS
from engine.specs.merge import MergeSpec
from engine.specs.problem import ProblemError, problem
from storage import jobs
from storage.errors import NotFound
from storage.jobs import Job


def merge_of(job: Job) -> MergeSpec | None:
    """The merge that a job is; None where it trained."""
    return validate(MergeSpec, job.spec) if KINDS[job.kind].spec is MergeSpec else None


def run_behind(session: Session, job_id: int) -> JobSpec:
    """The spec of a run; of a merge that of its first source that was trained, on the rows that the merge names.

    Raises:
        ProblemError: nothing in it was trained here, or what was is gone.
        NotFound: there is no such job.
    """
    job = jobs.get(session, job_id)
    merge = merge_of(job)
    if merge is None:
        return parse(job.spec)
    for one in merge.sources:
        number = one.target.partition("@")[0]
        if not number.isdecimal():
            continue
        try:
            found = run_behind(session, int(number))
        except (NotFound, ProblemError):  # another source may tell
            continue
        named = {"name": job.name} if merge.data is None else {"name": job.name, "data": _on(found, merge)}
        return found.model_copy(update=named)
    raise ProblemError([problem("merge_without_run", field="target", id=job_id)])


def _on(run: JobSpec, merge: MergeSpec) -> object:
    assert merge.data is not None
    return run.data.model_copy(update=merge.data.model_dump())
