"""Orders for work on stored dataset versions: to examine them, to make others of them, to write them as files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy.orm import Session

from app import ids
from engine.specs.base import validate
from engine.specs.kinds import KINDS
from storage import datasets, jobs
from storage.datasets import Version
from storage.jobs import Job
from storage.states import State

LATELY = 200


def named(session: Session, name: str) -> Version:
    """Find NAME or NAME@VERSION.

    Raises:
        NotFound: there is no such dataset or version.
    """
    plain, _, number = name.rpartition("@")
    if plain and (version := ids.number(number)) is not None:
        return datasets.get(session, plain, version)
    return datasets.get(session, name)


def part(version: Version) -> dict[str, Any]:
    """Return how a spec names a version."""
    return {"dataset": version.name, "version": version.version, "sha256": version.sha256}


def latest(session: Session, kind: str, version: Version) -> tuple[Job | None, Job | None]:
    """Return the newest job of a kind on a version's rows, and the newest that succeeded."""
    found = of_version(session, kind, version)
    return next(iter(found), None), next((job for job in found if job.state == State.SUCCEEDED), None)


def of_version(session: Session, kind: str, version: Version) -> list[Job]:
    """Return the jobs of a kind on a version's rows, newest first."""
    found = jobs.listing(session, kinds=[kind], limit=LATELY)
    return [job for job in found if job.spec["data"]["sha256"] == version.sha256]


def order(session: Session, kind: str, name: str, data: Mapping[str, Any]) -> Job:
    """Queue a job of this kind; `data` is its spec, untrusted.

    Raises:
        ProblemError: with every problem of the spec.
    """
    spec = validate(KINDS[kind].spec, data).model_dump(mode="json")
    return jobs.submit(session, kind=kind, name=name, spec=spec, lane=KINDS[kind].lane)


def training_rows(version: Version) -> int:
    """How many rows of a version are not held out."""
    splits: Mapping[str, int] = version.statistics.get("splits") or {}
    return splits.get("train", version.usable_rows)
