"""Exports: what can be exported in which form, and the jobs that do it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy.orm import Session

from engine.exporters import EXPORTERS
from engine.specs.base import validate
from engine.specs.kinds import KINDS
from engine.specs.other import ExportSpec
from engine.specs.problem import ProblemError, problem
from storage import jobs, targets
from storage.jobs import Job, SubmitOptions
from storage.targets import Target


def prepare(session: Session, data: Mapping[str, Any]) -> tuple[ExportSpec, Target]:
    """Build the spec of an export from untrusted data; its target becomes exact.

    Raises:
        ProblemError: the spec is wrong, or the form does not fit what was trained.
        NotFound, Conflict: there is no such run or checkpoint.
    """
    spec = validate(ExportSpec, data)
    target = targets.resolve(session, spec.target)
    exporter = EXPORTERS.get(spec.form)
    if exporter is None:
        raise ProblemError([problem("spec_not_a_choice", field="form", given=repr(spec.form), allowed=", ".join(EXPORTERS))])
    if exporter.needs_adapter and target.adapter_path is None:
        raise ProblemError([problem("spec_export_needs_adapter", field="form", form=spec.form)])
    return spec.model_copy(update={"target": target.text}), target


def submit(session: Session, data: Mapping[str, Any], *, key: str | None = None) -> Job:
    """Queue an export; the same key gives the same job."""
    spec, target = prepare(session, data)
    assert target.job_id is not None  # noqa: S101  the spec's pattern lets no base through
    name = jobs.get(session, target.job_id).name
    options = SubmitOptions(idempotency_key=key, parent_id=target.job_id)
    lane = KINDS["export"].lane
    return jobs.submit(session, kind="export", name=name, spec=spec.model_dump(), lane=lane, options=options)  # type: ignore[arg-type]
