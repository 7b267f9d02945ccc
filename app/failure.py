"""Why a job failed, in one of a few categories, and what can be done about it: data, read off the reason."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from app import draft
from app.form import flat, settings
from storage import jobs
from storage.errors import Conflict
from storage.jobs import Attempt, Job

CATEGORIES = {
    "bad_data": "data",
    "model_unavailable": "model",
    "export_not_verified": "model",
    "out_of_memory": "memory",
    "disk_full": "disk",
    "checkpoints_broken": "disk",
    "resume_differs": "disk",
    "device_fault": "machine",
    "killed": "machine",
    "lost": "machine",
    "stalled": "machine",
    "not_started": "machine",
    "bad_spec": "settings",
    "non_finite": "diverged",
    "diverged": "diverged",
}
FAMILIES = {"data": "data", "row": "data", "file": "data", "model": "model", "hub": "model", "spec": "settings"}
"""The categories of reasons that are problems: their code begins with one of these words."""
MACHINE = frozenset(
    {"device_fault", "killed", "lost", "stalled", "not_started", "no_result", "unexpected_exit", "internal_error"}
)
TENTH = 0.1
SHORTEST = 128
Spec = Mapping[str, Any]
Changes = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Remedy:
    """One way out. It leads to a page, or changes settings for a clone, or asks for another attempt."""

    name: str
    href: str | None = None
    changes: Callable[[Spec], Changes] | None = None
    """The settings to change, by path; none where the change cannot be made."""
    retry: Callable[[Session, int], Job] | None = None
    """Another attempt of the same job."""


def category_of(reason: str | None) -> str:
    """Return the category of a reason; what is not known is a fault of the program."""
    code = reason or ""
    return CATEGORIES.get(code) or FAMILIES.get(code.partition("_")[0], "internal")


def halved(spec: Spec) -> Changes:
    """Half the micro-batch and twice the accumulation: the same step in half the memory."""
    training = spec.get("training") or {}
    size, passes = training.get("batch_size") or 1, training.get("gradient_accumulation") or 1
    if size < 2:
        return {}
    return {"training.batch_size": size // 2, "training.gradient_accumulation": -(-size * passes // (size // 2))}


def recomputed(spec: Spec) -> Changes:
    """Gradient checkpointing, where it is not on yet."""
    on = (spec.get("training") or {}).get("gradient_checkpointing")
    return {} if on else {"training.gradient_checkpointing": True}


def shortened(spec: Spec) -> Changes:
    """Rows cut at half the length: the last thing to give up."""
    length = (spec.get("data") or {}).get("max_length") or 0
    possible = length >= 2 * SHORTEST and not halved(spec) and not recomputed(spec)
    return {"data.max_length": length // 2} if possible else {}


def slowed(spec: Spec) -> Changes:
    """A tenth of the learning rate."""
    rate = (spec.get("training") or {}).get("learning_rate")
    return {"training.learning_rate": float(f"{rate * TENTH:.3g}")} if rate else {}


def advised(job: Job) -> Changes:
    """The changes that the worker wrote down when the job failed, as far as the form knows them."""
    told = job.values.get("changes")
    known = told if isinstance(told, Mapping) else {}
    return {path: value for path, value in known.items() if path in settings() or path in draft.CHOICES}


def _unchanged(_spec: Spec) -> Changes:
    return {}


def from_start(session: Session, job_id: int) -> Job:
    """Queue a run again without its checkpoints, none of which it can go on from."""
    retry: Callable[..., Job] = jobs.retry
    return retry(session, job_id, from_start=True)


REMEDIES: dict[str, Remedy] = {
    one.name: one
    for one in (
        Remedy("halve", changes=halved),
        Remedy("recompute", changes=recomputed),
        Remedy("shorten", changes=shortened),
        Remedy("slow", changes=slowed),
        Remedy("change", changes=_unchanged),
        Remedy("retry", retry=jobs.retry),
        Remedy("from_start", retry=from_start),
        Remedy("disk", href="/disk"),
        Remedy("models", href="/models"),
        Remedy("data", href="/data"),
    )
}
BY_REASON: dict[str, tuple[str, ...]] = {
    "out_of_memory": ("halve", "recompute", "shorten"),
    "non_finite": ("slow",),
    "diverged": ("slow",),
    "disk_full": ("disk", "retry"),
    "checkpoints_broken": ("from_start",),
    "resume_differs": ("from_start",),
    "bad_data": ("data",),
    "bad_spec": ("change",),
    "model_unavailable": ("models", "retry"),
    **dict.fromkeys(MACHINE, ("retry",)),
}
BY_CATEGORY: dict[str, tuple[str, ...]] = {"data": ("data",), "model": ("models",), "settings": ("change",)}
"""What helps where the reason itself is a problem."""


def tried(spec: Spec, attempts: Sequence[Attempt]) -> Spec:
    """Return the settings that the last attempt really ran with: a remedy goes on from there."""
    last = next((one.overrides for one in reversed(attempts) if one.overrides), None)
    return {**spec, "training": {**(spec.get("training") or {}), **last}} if last else spec


def remedies(job: Job, attempts: Sequence[Attempt]) -> list[Remedy]:
    """Return what can be done about a failed job, the best first."""
    if advised(job) and job.kind == "train":
        return [Remedy("advised", changes=lambda _spec: advised(job))]
    names = BY_REASON.get(job.reason or "") or BY_CATEGORY.get(category_of(job.reason), ("retry",))
    return [one for one in (REMEDIES[name] for name in names) if _helps(one, job, attempts)]


def _helps(remedy: Remedy, job: Job, attempts: Sequence[Attempt]) -> bool:
    if remedy.changes is None:
        return True
    return job.kind == "train" and (remedy.name == "change" or bool(remedy.changes(tried(job.spec, attempts))))


def apply(session: Session, name: str, job_id: int) -> str | None:
    """Start a remedy; returns the page to go on at, or None where the job itself was queued again.

    Raises:
        NotFound, Conflict: there is no such job, or it does not help any more.
    """
    job = jobs.get(session, job_id)
    attempts = jobs.attempts(session, job_id)
    remedy = next((one for one in remedies(job, attempts) if one.name == name), None)
    if remedy is None or job.finished_at is None:
        raise Conflict("job_not_retryable", {"id": job_id, "state": job.state})
    if remedy.retry is not None:
        remedy.retry(session, job_id)
        return None
    if remedy.changes is None:
        return remedy.href
    ran = tried(job.spec, attempts)
    draft.fill_from(session, ran)
    draft.mend(session, remedy.changes(ran), flat(ran), run=job_id)
    return "/train"
