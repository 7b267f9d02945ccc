"""`atelier model list | add`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from app import measure, starter
from app.commands import waiting
from app.commands.shell import AsJson, Shell, columns, shell
from app.commands.speech import speech
from engine.specs.base import validate
from engine.specs.kinds import KINDS
from engine.specs.other import AddModelSpec
from engine.specs.problem import ProblemError, problem
from storage import jobs, models
from storage.models import Model

t = speech()
model = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
HUB_ID = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}")


@model.command("list", help=t("cli.help.model.list"))
def listing(json: AsJson = False) -> None:
    with shell(json) as sh:
        ensure_starter(sh)
        with sh.store.read() as session:
            found = models.listing(session)
        head = [t(f"cli.column.{key}") for key in ("name", "parameters", "size", "licence", "source")]
        rows = [
            [one.name, measure.short(one.parameters or 0), measure.size(one.bytes), one.licence or "–", one.source]
            for one in found
        ]
        sh.answer({"items": [document(one) for one in found]}, columns([head, *rows]))


@model.command("add", help=t("cli.help.model.add"))
def add(
    source: Annotated[str, typer.Argument(metavar="PATH_OR_HUB_ID", help=t("cli.arg.model"))],
    name: Annotated[str | None, typer.Option(help=t("cli.option.model_name"))] = None,
    revision: Annotated[str | None, typer.Option(help=t("cli.option.revision"))] = None,
    json: AsJson = False,
) -> None:
    with shell(json) as sh:
        wanted = {**_where(source), "revision": revision}
        spec = validate(AddModelSpec, {**wanted, "name": name or Path(wanted["location"]).name})
        added = _run(sh, spec)
        sh.answer(document(added), [t("cli.model.added", name=added.name, size=measure.size(added.bytes))])


def ensure_starter(sh: Shell) -> None:
    """Have the starter model on the list before it is named."""
    with sh.store.write() as session:
        job = starter.ask_for(session)
    if job is not None:
        sh.tell("cli.model.starter")
        waiting.refuse(sh, waiting.until_over(sh, job.id))


def document(one: Model) -> dict[str, Any]:
    """Return a model as the commands print it."""
    return {
        "id": one.id,
        "name": one.name,
        "path": one.path,
        "parameters": one.parameters,
        "licence": one.licence,
        "bytes": one.bytes,
        "source": one.source,
    }


def _where(source: str) -> dict[str, Any]:
    """Tell a folder from a hub id: a folder that is there wins."""
    folder = Path(source).expanduser()
    if folder.is_dir():
        return {"source": "folder", "location": str(folder.resolve())}
    if HUB_ID.fullmatch(source) and not source.startswith((".", "~")):
        return {"source": "hub", "location": source}
    raise ProblemError([problem("model_source_unknown", given=source)])


def _run(sh: Shell, spec: AddModelSpec) -> Model:
    with sh.store.write() as session:
        lane = KINDS["add_model"].lane
        job = jobs.submit(session, kind="add_model", name=spec.name, spec=spec.model_dump(), lane=lane)
    waiting.refuse(sh, waiting.until_over(sh, job.id))
    with sh.store.read() as session:
        return models.get(session, spec.name)
