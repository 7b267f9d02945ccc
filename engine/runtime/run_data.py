"""The dataset version that a job works on: found by its content, since names and numbers can be given anew."""

from __future__ import annotations

from sqlalchemy.orm import Session

from engine.specs.job import DataPart
from engine.specs.problem import ProblemError, problem
from engine.specs.versions import VersionPart
from storage import datasets
from storage.datasets import Version
from storage.errors import Conflict, NotFound


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
