"""The views of the Data page: what the address asks for, and what the preview child must be asked for it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from app import asking, datacard, datafigures, doctorview, filesview, mixview, removal, rows, tasksview
from app.form import named
from app.render import Html, card, empty, note, problems, tag
from app.ui import Ui
from engine.objectives import OBJECTIVES
from engine.specs.base import validate
from engine.specs.job import DataPart
from engine.specs.problem import ProblemError, problem
from storage import datasets, models
from storage.datasets import Version
from storage.errors import NotFound
from storage.jobs import Job

ANSWER_WITHIN_S = 0.35
ROW = re.compile("[0-9]{1,12}")
DEFAULT_LENGTH = 512


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the address and the tools ask for. `row` counts from 0."""

    dataset: str | None = None
    version: int | None = None
    """None is the latest."""
    view: str = "rows"
    row: int = 0
    model: str | None = None
    objective: str | None = None
    length: int = DEFAULT_LENGTH
    upload: int | None = None
    """The import whose file is shown, since nothing could be made of it."""

    @classmethod
    def of(
        cls,
        query: Mapping[str, str],
        model: str | None = None,
        objective: str | None = None,
        length: float | None = None,
    ) -> Wanted:
        """Read an address; what makes no sense in it is as if it were not there."""
        view, row, upload, version = (query.get(name, "") for name in ("view", "row", "upload", "version"))
        return cls(
            dataset=query.get("dataset") or None,
            version=int(version) if ROW.fullmatch(version) else None,
            view=view if view in datacard.VIEWS else "rows",
            row=max(0, int(row) - 1) if ROW.fullmatch(row) else 0,
            model=model or None,
            objective=objective or None,
            length=int(length) if length else DEFAULT_LENGTH,
            upload=int(upload) if ROW.fullmatch(upload) else None,
        )


@dataclass(frozen=True, slots=True)
class Tools:
    """What the token view can be drawn for."""

    models: list[str]
    model: str | None
    objectives: list[str]
    objective: str | None
    """None where nothing learns from such rows yet."""


Body = tuple[Html, int | None, Tools | None]
"""The view, the question that is still open, and the tools if the view has any."""


def body(ui: Ui, one: Version, wanted: Wanted, pending: int | None) -> Body:
    """Return the view that is asked for."""
    return VIEWS[wanted.view](ui, one, wanted, pending)


def _rows(ui: Ui, one: Version, wanted: Wanted, _pending: int | None) -> Body:
    start = min(wanted.row, max(0, one.usable_rows - 1)) // datacard.PAGE_ROWS * datacard.PAGE_ROWS
    try:
        found = rows.read(Path(one.path), start, datacard.PAGE_ROWS)
    except OSError as error:
        return note(ui.t("data.file_gone"), error.strerror or "", tone="bad"), None, None
    return datacard.rows(one, found, start, ui.t), None, None


def _problems(ui: Ui, one: Version, _wanted: Wanted, _pending: int | None) -> Body:
    return datacard.problems(one, ui.t), None, None


def _tokens(ui: Ui, one: Version, wanted: Wanted, pending: int | None) -> Body:
    tools = _tools(ui, one, wanted)
    place = min(wanted.row, max(0, one.usable_rows - 1))
    if tools.model is None:
        return empty(ui.t("data.no_model_title"), ui.t("data.no_model")), None, tools
    if not asking.worker_lives(ui.store):
        return note("", ui.t("data.no_worker"), tone="waiting"), None, tools
    if pending is None:
        try:
            validate(DataPart, {"dataset": one.name, "max_length": wanted.length}, at="data")
        except ProblemError as error:
            return card(problems((named(each, ui.t) for each in error.problems), ui.t)), None, tools
        asked = {"version_id": one.id, "row": place, "model": tools.model, "max_length": wanted.length}
        pending = asking.ask(ui.store, "tokens", {**asked, "objective": tools.objective and {"kind": tools.objective}})
    answer = asking.wait(ui.store, pending, within_s=ANSWER_WITHIN_S)
    if answer.is_open:
        waiting = card(tag("p", ui.t("data.reading"), cls="at-soft"), title=ui.t("data.row_as_seen", n=place + 1))
        return waiting, pending, tools
    if answer.data is None:
        found = answer.problems or (problem("plan_lost"),)
        return (
            tag("div", datacard.pager(one, place, 1, ui.t, view="tokens"), card(problems(found, ui.t)), cls="at-stack"),
            None,
            tools,
        )
    return datacard.row_tokens(one, place, answer.data, ui.t), None, tools


def _figures(ui: Ui, one: Version, _wanted: Wanted, _pending: int | None) -> Body:
    return datafigures.figures(one, ui.t), None, None


def _versions(ui: Ui, one: Version, _wanted: Wanted, _pending: int | None) -> Body:
    with ui.store.read() as session:
        found = datasets.versions(session, one.name)
    return datacard.versions(one, found, time.time(), ui.t), None, None


def _with_parts(body: Callable[[Ui, Version], tuple[Html, int | None]]) -> Callable[[Ui, Version, Wanted, Any], Body]:
    """A view whose components are drawn elsewhere."""

    def shown(ui: Ui, one: Version, _wanted: Wanted, _pending: int | None) -> Body:
        return (*body(ui, one), None)

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


def _tools(ui: Ui, one: Version, wanted: Wanted) -> Tools:
    with ui.store.read() as session:
        names = [model.name for model in models.listing(session)]
    model = wanted.model if wanted.model in names else next(iter(names), None)
    fitting = [kind for kind, entry in OBJECTIVES.items() if entry.row_kind == one.row_kind]
    objective = wanted.objective if wanted.objective in fitting else next(iter(fitting), None)
    return Tools(names, model, fitting, objective)


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
