"""What a worker sees to before its first round: the starter model is listed, old uploads are gone."""

from __future__ import annotations

import logging
import shutil
import time
from pathlib import Path

from engine.models import starter
from engine.specs.home import Home
from engine.specs.kinds import KINDS
from engine.specs.problem import ProblemError
from engine.specs.starter import ADD_STARTER, PACKAGE, STARTER
from engine.specs.unfinished import abandoned_rows
from storage import jobs, models, retention
from storage.database import Store
from storage.errors import StoreError
from storage.models import NewModel
from storage.states import State

log = logging.getLogger(__name__)

UPLOADS_KEPT_S = 86400.0


def list_starter(home: Home, store: Store) -> None:
    """List the starter model from the home's own copy; if it is not converted yet, queue that."""
    try:
        with store.read() as session:
            listed = next((one for one in models.listing(session) if one.name == STARTER), None)
        folder = Path(listed.path) if listed else None
        if folder is not None and folder.is_relative_to(home.models) and folder.is_dir():
            return
        places = (folder, starter.default_folder())
        source = next((place for place in places if place is not None and starter.is_converted(place)), None)
        if source is None:
            _ask_for_it(store)
        else:
            _bring_in(home, store, source)
    except (StoreError, ProblemError, OSError) as error:
        log.warning("starter model not listed: %s", error)  # all the rest works without it


def _ask_for_it(store: Store) -> None:
    told = ADD_STARTER.model_dump()
    with store.write() as session:
        under_way = jobs.listing(session, kinds=["add_model"], states=[State.QUEUED, State.RUNNING])
        if all(one.spec != told for one in under_way):
            lane = KINDS["add_model"].lane
            jobs.submit(session, kind="add_model", name=STARTER, spec=told, lane=lane)


def _bring_in(home: Home, store: Store, source: Path) -> None:
    """Copy the starter into the home: what is trained on it must not end with the environment."""
    staged = home.models / ".tmp-starter"
    shutil.rmtree(staged, ignore_errors=True)
    try:
        folder, facts = starter.keep(source, staged)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    new = NewModel(
        name=STARTER,
        path=str(folder),
        source="starter",
        bytes=int(facts["bytes"]),
        licence=facts["licence"],
        parameters=facts["parameters"],
        facts={**facts, "location": PACKAGE},
    )
    with store.write() as session:
        models.move(session, new)
    log.info("listed the starter model from %s", source)


def sweep_leftovers(home: Home, store: Store) -> None:
    """Remove what killed processes and imports that ended left half-made, and uploads that nobody imported within a
    day and no job will read any more."""
    with store.read() as session:
        open_jobs = retention.staged_names(session)
    for folder in (home.exports, home.models):
        for leftover in folder.glob(".tmp-*"):
            shutil.rmtree(leftover, ignore_errors=True)
    for rows in abandoned_rows(home, open_jobs):
        shutil.rmtree(rows, ignore_errors=True)
    needed = set(open_jobs.values())
    uploads = [path for path in home.staging.iterdir() if path.name not in needed]
    for path in [*uploads, *(home.datasets / "tokens").glob(".making-*")]:
        if time.time() - path.stat().st_mtime > UPLOADS_KEPT_S:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
