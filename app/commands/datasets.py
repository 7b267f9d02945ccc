"""`atelier data check | cluster | derive | export | card | delete`: work on stored dataset versions."""

from __future__ import annotations

import contextlib
import shutil
import sys
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from app import dataorders, datasheet, measure, overlay, removal, staging
from app.commands import waiting
from app.commands.shell import AsJson, Shell, describe, document, shell
from app.commands.speech import speech
from engine.specs.problem import Problem, ProblemError, problem
from storage import datasets
from storage.jobs import Job
from storage.lineage import lineage

t = speech()
Name = Annotated[str, typer.Argument(help=t("cli.arg.dataset"))]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help=t("cli.option.set"))]


def check(name: Name, set: Set = None, json: AsJson = False) -> None:
    with shell(json) as sh:
        job = _on_version(sh, "examine", name, overlay.changed({}, set or []))
        said = job.result or {}
        found = [{**one, **_worded(sh, one)} for one in said["findings"]]
        sh.answer({"id": job.id, **said, "findings": found}, _found(sh, said))


def cluster(name: Name, set: Set = None, json: AsJson = False) -> None:
    with shell(json) as sh:
        job = _on_version(sh, "cluster", name, overlay.changed({}, set or []))
        said = job.result or {}
        sh.answer({"id": job.id, **said}, _clusters(sh, said))


def derive(
    sources: Annotated[list[str], typer.Argument(metavar="NAME…", help=t("cli.arg.sources"))],
    operation: Annotated[str, typer.Option(help=t("cli.option.operation"))],
    name: Annotated[str, typer.Option(help=t("cli.option.derived_name"))],
    set: Set = None,
    json: AsJson = False,
) -> None:
    with shell(json) as sh:
        wanted = overlay.changed({}, set or [])
        with sh.store.write() as session:
            parts = [dataorders.part(dataorders.named(session, one)) for one in sources]
            told = {"name": name, "sources": parts, "operation": {**wanted, "kind": operation}}
            job = dataorders.order(session, "derive", name, told)
        said = done(sh, job).result or {}
        sh.answer({**said, "id": said["version_id"]}, [sh.t("cli.data.added", **said)])


def export(
    name: Name,
    out: Annotated[Path, typer.Option(metavar="FILE", help=t("cli.option.data_out"))],
    form: Annotated[str, typer.Option("--as", help=t("cli.option.data_as"))] = "jsonl",
    json: AsJson = False,
) -> None:
    with shell(json) as sh:
        target = out.expanduser().absolute()
        if target.exists():
            raise ProblemError([problem("usage_out_there", file=str(target))])
        said = _on_version(sh, "write_data", name, {"form": form}).result or {}
        written = said["files"][0]
        _copy(Path(said["path"]) / written["name"], target)
        defused = [sh.t("cli.data.defused", n=said["defused"])] if said["defused"] else []
        facts = {"rows": said["rows"], "path": str(target), "size": measure.size(written["bytes"])}
        sh.answer({**said, "path": str(target)}, [sh.t("cli.data.written", **facts), *defused])


def card(name: Name, json: AsJson = False) -> None:
    with shell(json) as sh:
        with sh.store.read() as session:
            version = dataorders.named(session, name)
            text = datasheet.markdown(version, lineage(session, version.id), sh.t)
        sh.answer({"name": version.name, "version": version.version, "card": text}, [text])


def delete(
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", "-y", help=t("cli.option.yes"))] = False,
    json: AsJson = False,
) -> None:
    with shell(json) as sh:
        with sh.store.read() as session:
            datasets.find(session, name)
        question = t("cli.data.sure", name=name)
        if not yes and not json and sys.stdin.isatty() and not typer.confirm(question, err=True):
            raise typer.Exit(75)
        removal.delete_dataset(sh.store, sh.home, name)
        sh.answer({"name": name, "deleted": True}, [sh.t("cli.data.deleted", name=name)])


def _on_version(sh: Shell, kind: str, name: str, wanted: Mapping[str, Any]) -> Job:
    """Queue a job on a version, and wait for its end."""
    with sh.store.write() as session:
        version = dataorders.named(session, name)
        job = dataorders.order(session, kind, version.name, {**wanted, "data": dataorders.part(version)})
    return done(sh, job)


def done(sh: Shell, job: Job) -> Job:
    """Wait for a job's end, and refuse one that did not succeed."""
    over = waiting.until_over(sh, job.id)
    waiting.refuse(sh, over)
    return over


def _worded(sh: Shell, one: dict[str, Any]) -> dict[str, Any]:
    told = document(sh.t, Problem(one["code"], values=one["values"]))
    return {"what": told["what"], "fix": told["fix"]}


def _found(sh: Shell, said: dict[str, Any]) -> Iterable[str]:
    if not said["findings"]:
        yield sh.t("cli.data.healthy", rows=said["rows"], checks=len(said["checks"]))
        return
    for one in said["findings"]:
        yield f"[{one['key']}] {describe(sh.t, Problem(one['code'], values=one['values']))}"
        yield "  " + sh.t("cli.data.found_rows", rows=", ".join(map(str, one["rows"][:10])), count=one["count"])
    yield sh.t("cli.data.examined", key=said["key"])


def _clusters(sh: Shell, said: dict[str, Any]) -> Iterable[str]:
    for place, one in enumerate(said["clusters"]):
        yield f"[{place}] {' · '.join(one['words'])}"
        yield "  " + sh.t("cli.data.found_rows", rows=", ".join(map(str, one["rows"])), count=one["count"])
    if said["without"]:
        yield sh.t("clusters.without", n=said["without"])
    yield sh.t("cli.data.clustered", key=said["key"])


def _copy(source: Path, target: Path) -> None:
    """Copy a file whole or not at all.

    Raises:
        ProblemError: it cannot be written.
    """
    beside = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, beside)
        beside.rename(target)
    except OSError as error:
        with contextlib.suppress(OSError):
            beside.unlink()
        if error.errno in staging.FULL:
            raise ProblemError([problem("export_no_room", folder=str(target), source=str(source))]) from error
        raise ProblemError([problem("export_not_copied", folder=str(target), detail=error.strerror or "")]) from error
