"""Models on their way in and out: the jobs that add one, and the removal of one with its files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from app import removal, starter
from app.ui import Ui
from app.watching import watch
from engine.specs.base import validate
from engine.specs.kinds import KINDS
from engine.specs.other import AddModelSpec
from engine.specs.problem import ProblemError, problem
from engine.specs.starter import STARTER
from storage import jobs, models
from storage.errors import Conflict
from storage.jobs import Job

PAGE = "models"
SOURCES = ("folder", "hub")
MOST_RUNS = 10_000


def add(ui: Ui, data: dict[str, Any]) -> Job:
    """Queue the job that adds a model.

    Raises:
        ProblemError: with every field that is wrong; the name is taken.
    """
    told = {key: value for key, value in data.items() if value}
    if told.get("location") and not told.get("name"):
        told["name"] = name_of(str(told["location"]))
    spec = validate(AddModelSpec, told)
    with ui.store.write() as session:
        if any(one.name == spec.name for one in models.listing(session)):
            raise ProblemError([problem("spec_model_name_taken", field="name", name=spec.name)])
        lane = KINDS["add_model"].lane
        job = jobs.submit(session, kind="add_model", name=spec.name, spec=spec.model_dump(mode="json"), lane=lane)
        watch(session, PAGE, job.id)
    return job


def add_starter(ui: Ui) -> None:
    """Queue the job that adds the starter, where it is missing."""
    with ui.store.write() as session:
        job = starter.ask_for(session)
        if job is not None:
            watch(session, PAGE, job.id)


def name_of(location: str) -> str:
    """Return a model's name from its folder or hub id.

    >>> name_of("/data/models/My Model/"), name_of("HuggingFaceTB/SmolLM2-360M-Instruct")
    ('My Model', 'SmolLM2-360M-Instruct')
    """
    last = location.rstrip("/").rsplit("/", 1)[-1]
    return re.sub(r"[^\w .()+-]+", "_", last).strip(" ._")[:120] or "model"


def num_runs(session: Session, name: str) -> int:
    """How many runs were trained on a model: without it they can be neither talked to nor exported."""
    return sum(
        job.spec.get("model", {}).get("id") == name for job in jobs.listing(session, kinds=["train"], limit=MOST_RUNS)
    )


def remove(ui: Ui, name: str) -> None:
    """Remove a model with the copy of its files that the studio made.

    Raises:
        Conflict, NotFound: it is the starter, in use, or gone.
    """
    with ui.store.write() as session:
        if name == STARTER:
            raise Conflict("model_is_starter", {"name": name})
        gone = models.remove(session, name)
        shared = any(one.path == gone.path for one in models.listing(session))
    if not shared:
        removal.delete_folder(Path(gone.path), below=ui.home.models)
