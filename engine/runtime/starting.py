"""What a worker sees to before its first round: the starter model is listed, old uploads are gone."""

from __future__ import annotations

import logging
import shutil
import time
from pathlib import Path

from engine.models import starter
from engine.models.inspect import inspect
from engine.specs.home import Home
from engine.specs.kinds import KINDS
from engine.specs.starter import ADD_STARTER, HUB_ID, STARTER
from storage import jobs, models
from storage.database import Store
from storage.errors import NotFound
from storage.models import NewModel
from storage.states import State

log = logging.getLogger(__name__)

UPLOADS_KEPT_S = 86400.0


def list_starter(store: Store) -> None:
    """List the starter model; if it is not converted yet, queue that."""
    folder = starter.default_folder()
    with store.read() as session:
        try:
            if Path(models.get(session, STARTER).path).is_dir():
                return
        except NotFound:
            pass
    if not starter.is_converted(folder):
        told = ADD_STARTER.model_dump()
        with store.write() as session:
            under_way = jobs.listing(session, kinds=["add_model"], states=[State.QUEUED, State.RUNNING])
            if all(one.spec != told for one in under_way):
                lane = KINDS["add_model"].lane
                jobs.submit(session, kind="add_model", name=STARTER, spec=told, lane=lane)
        return
    facts = inspect(folder)
    with store.write() as session:
        if any(one.name == STARTER for one in models.listing(session)):
            models.remove(session, STARTER)  # its folder is gone: the environment was made anew elsewhere
        new = NewModel(
            name=STARTER,
            path=str(folder),
            source="starter",
            bytes=int(facts["bytes"]),
            licence=facts["licence"],
            parameters=facts["parameters"],
            facts={**facts, "hub_id": HUB_ID},
        )
        models.add(session, new)
    log.info("listed the starter model from %s", folder)


def sweep_leftovers(home: Home) -> None:
    """Remove what killed exports and additions left half-made, and uploads that nobody imported within a day."""
    for folder in (home.exports, home.models):
        for leftover in folder.glob(".tmp-*"):
            shutil.rmtree(leftover, ignore_errors=True)
    for path in home.staging.iterdir():
        if time.time() - path.stat().st_mtime > UPLOADS_KEPT_S:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
