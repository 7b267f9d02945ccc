"""The views of the Data page: what the address asks for, and what the preview child must be asked for it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from app import datacard, datafigures, doctorview, filesview, mixview, removal, rows, tasksview, tokenform, tokenview
from app.render import Html, note, tag
from app.tokenform import Chosen
from app.ui import Ui
from engine.specs.base import validate
from engine.specs.job import DataPart
from storage import datasets
from storage.datasets import Version
from storage.errors import NotFound
from storage.jobs import Job

ROW = re.compile("[0-9]{1,12}")
UNCHOSEN = Chosen()


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the address and the tools ask for. `row` counts from 0."""

    dataset: str | None = None
    version: int | None = None
    """None is the latest."""
    view: str = "rows"
    row: int = 0
    sequence: int = 0
    """Of the packed ones, counted from 0."""
    tokens: Chosen = UNCHOSEN
    upload: int | None = None
    """The import whose file is shown, since nothing could be made of it."""

    @classmethod
    def of(cls, query: Mapping[str, str], tokens: Chosen = UNCHOSEN) -> Wanted:
        """Read an address; what makes no sense in it is as if it were not there."""
        view, upload, version = (query.get(name, "") for name in ("view", "upload", "version"))
        row, sequence = (query.get(name, "") for name in ("row", "sequence"))
        return cls(
            dataset=query.get("dataset") or None,
            version=int(version) if ROW.fullmatch(version) else None,
            view=view if view in datacard.VIEWS else "rows",
            row=max(0, int(row) - 1) if ROW.fullmatch(row) else 0,
            sequence=max(0, int(sequence) - 1) if ROW.fullmatch(sequence) else 0,
            tokens=tokens,
            upload=int(upload) if ROW.fullmatch(upload) else None,
        )


Body = tuple[Html, int | None]
"""The view, and the question that is still open."""


def body(ui: Ui, one: Version, wanted: Wanted, pending: int | None) -> Body:
    """Return the view that is asked for."""
    return VIEWS[wanted.view](ui, one, wanted, pending)


def _rows(ui: Ui, one: Version, wanted: Wanted, _pending: int | None) -> Body:
    start = min(wanted.row, max(0, one.usable_rows - 1)) // datacard.PAGE_ROWS * datacard.PAGE_ROWS
    try:
        found = rows.read(Path(one.path), start, datacard.PAGE_ROWS)
    except OSError as error:
        return note(ui.t("data.file_gone"), error.strerror or "", tone="bad"), None
    return datacard.rows(one, found, start, ui.t), None


def _problems(ui: Ui, one: Version, _wanted: Wanted, _pending: int | None) -> Body:
    return datacard.problems(one, ui.t), None


def _tokens(ui: Ui, one: Version, wanted: Wanted, pending: int | None) -> Body:
    chosen = tokenform.known(ui, one, wanted.tokens).chosen
    if chosen.packs:
        return tokenview.packed(ui, one, wanted.sequence, chosen, pending)
    return tokenview.row(ui, one, min(wanted.row, max(0, one.usable_rows - 1)), chosen, pending)


def _figures(ui: Ui, one: Version, _wanted: Wanted, _pending: int | None) -> Body:
    return datafigures.figures(one, ui.t), None


def _versions(ui: Ui, one: Version, _wanted: Wanted, _pending: int | None) -> Body:
    with ui.store.read() as session:
        found = datasets.versions(session, one.name)
    return datacard.versions(one, found, time.time(), ui.t), None


def _with_parts(body: Callable[[Ui, Version], Body]) -> Callable[[Ui, Version, Wanted, Any], Body]:
    """A view whose components are drawn elsewhere."""

    def shown(ui: Ui, one: Version, _wanted: Wanted, _pending: int | None) -> Body:
        return body(ui, one)

    return shown


VIEWS = {
    "rows": _rows,
    "tokens": _tokens,
    "figures": _figures,
    "check": _with_parts(doctorview.body),
    "problems": _problems,
    "tasks": _with_parts(tasksview.body),
    "mix": _with_parts(mixview.body),
    "versions": _versions,
    "files": _with_parts(filesview.body),
}


def made_by(session: Session, job: Job) -> Version | None:
    """Return the version that an import made, as long as it is there."""
    result = job.result or {}
    if "name" not in result:
        return None
    try:
        return datasets.get(session, str(result["name"]), result.get("version"))
    except NotFound:
        return None


def rename(ui: Ui, name: str, new_name: str) -> str:
    """Give a dataset another name, and return it.

    Raises:
        ProblemError, Conflict, NotFound: the name is none, is taken, or the dataset is in use or gone.
    """
    new = validate(DataPart, {"dataset": new_name.strip()}, at="data").dataset
    with ui.store.write() as session:
        datasets.rename(session, name, new)
    return new


def delete(ui: Ui, name: str) -> None:
    """Delete a dataset and the files that no other one needs.

    Raises:
        Conflict, NotFound: the dataset is in use or gone.
    """
    removal.delete_dataset(ui.store, ui.home, name)


def sure_text(ui: Ui, name: str) -> str:
    """Return what a person confirms before a dataset is deleted: also how many runs then lose it."""
    with ui.store.read() as session:
        num_runs = datasets.num_runs(session, name)
    return ui.t("data.sure_runs", n=num_runs) if num_runs else ui.t("data.sure")


def moved(address: str) -> Html:
    """Return the mark by which the browser's address follows."""
    return tag("span", data_address=address)
