"""`atelier data inspect | add | list | show`; the commands on stored versions are in `datasets`."""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from app import dataorders, measure, staging
from app.commands import datasets as stored
from app.commands import making, processes, waiting
from app.commands.shell import AsJson, Shell, columns, describe, document, say, shell
from app.commands.speech import speech
from engine.specs.base import validate
from engine.specs.kinds import KINDS
from engine.specs.other import ImportSpec
from engine.specs.problem import Problem, ProblemError, problem
from storage import datasets, jobs, models, requests
from storage.datasets import Version
from storage.errors import NotFound

t = speech()
data = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help=t("cli.arg.file"))]
Format = Annotated[str | None, typer.Option("--format", help=t("cli.option.format"))]
Map = Annotated[list[str] | None, typer.Option("--map", metavar="FIELD=COLUMN", help=t("cli.option.map"))]
PREVIEW_S = 60.0
HUB = "hub:"

data.command("check", help=t("cli.help.data.check"))(stored.check)
data.command("cluster", help=t("cli.help.data.cluster"))(stored.cluster)
data.command("derive", help=t("cli.help.data.derive"))(stored.derive)
data.command("export", help=t("cli.help.data.export"))(stored.export)
data.command("card", help=t("cli.help.data.card"))(stored.card)
data.command("delete", help=t("cli.help.data.delete"))(stored.delete)
data.command("make", help=t("cli.help.data.make"))(making.make)
data.command("go-on", help=t("cli.help.data.go_on"))(making.go_on)
data.command("drafts", help=t("cli.help.data.drafts"))(making.drafts)
data.command("keep", help=t("cli.help.data.keep"))(making.keep)
data.command("leave-out", help=t("cli.help.data.leave_out"))(making.leave_out)
data.command("collect", help=t("cli.help.data.collect"))(making.collect)


@data.command("inspect", help=t("cli.help.data.inspect"))
def inspect(file: FileArgument, format: Format = None, map: Map = None, json: AsJson = False) -> None:
    with shell(json) as sh:
        mapping = _mapping(map)
        options = [
            f"--source-name={file.name[-300:]}",
            *([f"--format={format}"] if format else []),
            *(f"--map={field}={column}" for field, column in mapping.items()),
        ]
        staged = sh.home.staging / _stage(sh, file)
        try:
            code, said = processes.inspect(sh.home, staged, options=options)
        finally:
            shutil.rmtree(staged) if staged.is_dir() else staged.unlink(missing_ok=True)
        found = [Problem.from_dict(one) for one in said.get("problems", [])]
        if code != 0 and "format" not in said:
            raise ProblemError(found or [problem("internal_inspect_ended", exit_code=code)])
        sh.answer(_inspection(sh, said, found), _inspected(sh, said, found))
        if code != 0:
            raise typer.Exit(code)


@data.command("add", help=t("cli.help.data.add"))
def add(
    file: FileArgument,
    name: Annotated[str | None, typer.Option(help=t("cli.option.data_name"))] = None,
    format: Format = None,
    map: Map = None,
    json: AsJson = False,
) -> None:
    with shell(json) as sh:
        hub = str(file).removeprefix(HUB) if str(file).startswith(HUB) else None
        told = {
            "source_name": (hub or file.name)[-300:],
            "name": name or file.stem[:120] or "data",
            "hub": hub,
            "format": format,
            "mapping": _mapping(map),
        }
        validate(ImportSpec, {"staged": "-", **told})
        staged = uuid.uuid4().hex if hub else _stage(sh, file)
        spec = validate(ImportSpec, {"staged": staged, **told})
        with sh.store.write() as session:
            job = jobs.submit(session, kind="import", name=spec.name, spec=spec.model_dump(), lane=KINDS["import"].lane)
        over = waiting.until_over(sh, job.id)
        waiting.refuse(sh, over)
        version = _imported(sh, over)
        for one in version.problems[:10]:
            say(describe(sh.t, Problem.from_dict(one)))
        sh.answer(_version(version), [sh.t("cli.data.added", **_facts(version))])


@data.command("list", help=t("cli.help.data.list"))
def listing(json: AsJson = False) -> None:
    with shell(json) as sh:
        with sh.store.read() as session:
            found = datasets.listing(session)
        head = [t(f"cli.column.{key}") for key in ("name", "version", "rows", "usable_rows", "format", "size")]
        rows = [
            [one.name, one.version, one.rows, one.usable_rows, one.format, measure.size(one.bytes)] for one in found
        ]
        sh.answer(
            {"items": [_version(one) for one in found]}, columns([head, *rows]) if found else [t("cli.data.none")]
        )


@data.command("show", help=t("cli.help.data.show"))
def show(
    name: Annotated[str, typer.Argument(help=t("cli.arg.dataset"))],
    row: Annotated[int | None, typer.Option(min=0, help=t("cli.option.row"))] = None,
    model: Annotated[str | None, typer.Option(help=t("cli.option.row_model"))] = None,
    json: AsJson = False,
) -> None:
    with shell(json) as sh:
        with sh.store.read() as session:
            version = dataorders.named(session, name)
            if model is not None:
                models.get(session, model)
        if model is not None:
            view = _tokens(sh, version, row or 0, model)
            sh.answer(view, _token_lines(view))
        elif row is not None:
            content = _row(version, row)
            sh.answer({"row": row, "content": content}, _turns(content))
        else:
            sh.answer({**_version(version), **_more(sh, version)}, _shown(sh, version))


def _stage(sh: Shell, source: Path) -> str:
    return staging.stage_folder(sh.home, source) if source.is_dir() else staging.stage(sh.home, source)


def _mapping(pairs: Sequence[str] | None) -> dict[str, str]:
    wrong = [pair for pair in pairs or [] if "=" not in pair or pair.startswith("=")]
    if wrong:
        raise ProblemError([problem("usage_map", given=wrong[0])])
    return dict(pair.split("=", 1) for pair in pairs or [])


def _inspection(sh: Shell, said: dict[str, Any], found: Sequence[Problem]) -> dict[str, Any]:
    warnings = [_warning(sh, one) for one in said.get("warnings", [])]
    return {**said, "problems": [document(sh.t, one) for one in found], "warnings": warnings}


def _warning(sh: Shell, one: Any) -> Any:
    return document(sh.t, Problem.from_dict(one)) if isinstance(one, dict) and "code" in one else one


def _inspected(sh: Shell, said: dict[str, Any], found: Sequence[Problem]) -> Iterable[str]:
    yield sh.t(
        "cli.data.inspected", **{key: said.get(key) for key in ("format", "rows", "usable_rows", "problem_count")}
    )
    for role, column in (said.get("mapping") or {}).items():
        yield f"  {role} ← {column}"
    yield from (describe(sh.t, one) for one in found)
    yield from (
        describe(sh.t, Problem.from_dict(one))
        for one in said.get("warnings", [])
        if isinstance(one, dict) and "code" in one
    )


def _imported(sh: Shell, job: jobs.Job) -> Version:
    said = job.result or {}
    with sh.store.read() as session:
        if "version_id" in said:
            return datasets.by_id(session, said["version_id"])
        return datasets.get(session, str(said.get("name", job.spec["name"])), said.get("version"))


def _version(one: Version) -> dict[str, Any]:
    return {
        "id": one.id,
        "name": one.name,
        "version": one.version,
        "rows": one.rows,
        "usable_rows": one.usable_rows,
        "row_kind": one.row_kind,
        "format": one.format,
        "bytes": one.bytes,
        "problem_count": one.problem_count,
    }


def _more(sh: Shell, one: Version) -> dict[str, Any]:
    found = [document(sh.t, Problem.from_dict(item)) for item in one.problems]
    warnings = [_warning(sh, item) for item in one.warnings]
    return {
        "mapping": one.mapping,
        "statistics": one.statistics,
        "problems": found,
        "warnings": warnings,
        "sha256": one.sha256,
    }


def _facts(one: Version) -> dict[str, Any]:
    return {"name": one.name, "version": one.version, "rows": one.rows, "usable_rows": one.usable_rows}


def _shown(sh: Shell, one: Version) -> Iterable[str]:
    yield sh.t("cli.data.shown", **_facts(one), format=one.format, size=measure.size(one.bytes))
    yield from (describe(sh.t, Problem.from_dict(item)) for item in one.problems)
    plain = [[key, value] for key, value in one.statistics.items() if isinstance(value, str | int | float)]
    yield from columns(plain) if plain else ()


def _row(version: Version, row: int) -> dict[str, Any]:
    """Read one row of the stored file."""
    from app import rows  # the other commands do without its library

    found = rows.read(Path(version.path), row, 1)
    if not found:
        raise NotFound("row", row)
    return found[0]


def _turns(content: dict[str, Any]) -> Iterable[str]:
    for key, value in content.items():
        if isinstance(value, list):
            yield f"{key}:"
            yield from (f"  {one['role']}: {one['content']}" for one in value)
        elif value is not None:
            yield f"{key}: {value}"


def _tokens(sh: Shell, version: Version, row: int, model: str) -> dict[str, Any]:
    payload = {"version_id": version.id, "row": row, "model": model}
    with processes.preview(sh.home, sh.store) as lives:
        with sh.store.write() as session:
            asked = requests.ask(session, "tokens", payload)
        until = time.monotonic() + PREVIEW_S
        while time.monotonic() < until:
            with sh.store.read() as session:
                found = requests.get(session, asked)
            if found.state == "answered":
                return _view(found.answer or {}, row)
            if found.state == "failed":
                raise ProblemError([Problem.from_dict(one) for one in found.problems])
            if not lives():
                break
            time.sleep(0.02)
    raise ProblemError([problem("internal_preview_silent", seconds=int(PREVIEW_S))])


def _view(answer: dict[str, Any], row: int) -> dict[str, Any]:
    tokens = answer.get("tokens", [])
    counted = {"num_tokens": len(tokens), "num_trained": sum(bool(one["trained"]) for one in tokens)}
    return {**counted, **answer, "row": row, "tokens": tokens}


def _token_lines(view: dict[str, Any]) -> Iterable[str]:
    yield from columns([[one["id"], "▪" if one["trained"] else "·", repr(one["text"])[1:-1]] for one in view["tokens"]])
    yield t("cli.data.tokens", num_tokens=view["num_tokens"], num_trained=view["num_trained"])
