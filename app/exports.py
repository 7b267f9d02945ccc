"""Exports: what can be exported in which form, and the jobs that do it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy.orm import Session

from engine.exporters import EXPORTERS
from engine.exporters.limits import LIMITS
from engine.specs.base import validate
from engine.specs.kinds import KINDS
from engine.specs.other import ExportSpec
from engine.specs.problem import ProblemError, problem
from engine.tuners import TUNERS
from storage import checkpoints, jobs, targets
from storage.jobs import Job, SubmitOptions
from storage.states import State
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
        raise ProblemError(
            [problem("spec_not_a_choice", field="form", given=repr(spec.form), allowed=", ".join(EXPORTERS))]
        )
    if exporter.needs_adapter and target.adapter_path is None:
        raise ProblemError([problem("spec_export_needs_adapter", field="form", form=spec.form)])
    if exporter.merges and (kind := _unmergeable(session, target)):
        raise ProblemError([problem("spec_export_cannot_merge", field="form", tuner=kind)])
    return spec.model_copy(update={"target": target.text}), target


def submit(session: Session, data: Mapping[str, Any]) -> Job:
    """Queue an export; while the very same one waits or runs, that one is returned: a double click makes one.

    The checkpoint is kept from then on: a run that goes on training does not remove it for newer ones.
    """
    spec, target = prepare(session, data)
    under_way = jobs.listing(session, kinds=["export"], states=[State.QUEUED, State.RUNNING])
    same = next((one for one in under_way if one.spec == spec.model_dump()), None)
    if same is not None:
        return same
    assert target.job_id is not None and target.step is not None
    checkpoints.pin(session, target.job_id, target.step)
    name = jobs.get(session, target.job_id).name
    options = SubmitOptions(parent_id=target.job_id)
    lane = KINDS["export"].lane
    return jobs.submit(session, kind="export", name=name, spec=spec.model_dump(), lane=lane, options=options)


def choices_for(session: Session, target: Target) -> tuple[list[str], list[str]]:
    """Return the forms that a target can be written in, and the bases that make a difference to it."""
    has_adapter, stays_apart = target.adapter_path is not None, _unmergeable(session, target) is not None
    forms = [
        name
        for name, exporter in EXPORTERS.items()
        if (has_adapter or not exporter.needs_adapter) and not (stays_apart and exporter.merges)
    ]
    return forms, list(LIMITS) if has_adapter and target.quantization != "none" else ["trained"]


def _unmergeable(session: Session, target: Target) -> str | None:
    """The tuner whose adapter cannot become a part of the base; None for any other target."""
    if target.adapter_path is None or target.job_id is None:
        return None
    kind = str(jobs.get(session, target.job_id).spec["tuner"]["kind"])
    return None if TUNERS[kind].merges else kind
