"""The dataset version that a job works on: found by its content, since names and numbers can be given anew."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.orm import Session

from engine.specs.job import DataPart
from engine.specs.problem import ProblemError, problem
from engine.specs.versions import VersionPart
from storage import datasets
from storage.datasets import Version
from storage.errors import Conflict, NotFound


@dataclass(frozen=True, slots=True)
class Sources:
    """The rows of a run: the dataset's, and those that are mixed in."""

    main: Path
    mixed_in: Path | None


def sources_of(session: Session, data: DataPart) -> Sources:
    """The rows that a run was submitted with.

    Raises:
        ProblemError: see `version_of`.
    """
    main = Path(version_of(session, data).path)
    if data.mix_in is None:
        return Sources(main, None)
    second = {"dataset": data.mix_in, "version": data.mix_in_version, "sha256": data.mix_in_sha256}
    return Sources(main, Path(version_of(session, data.model_copy(update=second)).path))


def version_of(session: Session, data: DataPart | VersionPart) -> Version:
    """The rows that a job was submitted with, also under another name; by name alone where an older spec says no more.

    Raises:
        ProblemError: they are gone, or that name has other rows now.
    """
    try:
        if data.sha256 is None:
            return datasets.get(session, data.dataset, data.version)
        return datasets.of_content(session, data.dataset, data.version, data.sha256)
    except NotFound as error:
        raise ProblemError([problem("data_not_there", field="data.dataset", given=data.dataset)]) from error
    except Conflict as error:
        found = problem("data_other_rows", field="data.dataset", dataset=data.dataset, version=data.version)
        raise ProblemError([found]) from error
