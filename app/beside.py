"""The other models of a run, such as a teacher or a reward model: named exactly, and kept while it needs them."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from engine.specs.job import JobSpec, parse
from engine.specs.problem import ProblemError, problem
from storage import checkpoints, targets
from storage.errors import Conflict, NotFound
from storage.targets import Target


def exact(session: Session, spec: JobSpec) -> JobSpec:
    """Name the very checkpoint where only a run was named: each attempt then loads the same.

    Raises:
        ProblemError: one of them is not there.
    """
    data = spec.model_dump(mode="json")
    for path, text in _targets(spec).items():
        found = _found(session, path, text)
        if found.job_id is not None:
            _put(data["objective"], path, found.text)
    return parse(data)


def keep(session: Session, spec: JobSpec) -> None:
    """Keep the checkpoints among them from being removed for newer ones."""
    for path, text in _targets(spec).items():
        found = _found(session, path, text)
        if found.job_id is not None and found.step is not None:
            checkpoints.pin(session, found.job_id, found.step)


def _targets(spec: JobSpec) -> dict[str, str]:
    chosen: Any = spec.objective
    return dict(chosen.needs().targets)


def _found(session: Session, path: str, text: str) -> Target:
    try:
        return targets.resolve(session, text)
    except (NotFound, Conflict) as error:
        raise ProblemError([problem("model_not_there", field=f"objective.{path}", given=text)]) from error


def _put(section: dict[str, Any], path: str, value: str) -> None:
    *parts, last = path.split(".")
    for part in parts:
        section = section[part]
    section[last] = value
