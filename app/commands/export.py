"""`atelier export TARGET --as FORM --out DIR`."""

from __future__ import annotations

import os
import shutil
import uuid
from pathlib import Path
from typing import Annotated, Any

import typer

from app import exports, measure, staging
from app.commands import waiting
from app.commands.shell import AsJson, columns, document, shell
from app.commands.speech import speech
from engine.specs.problem import Problem, ProblemError, problem
from storage import targets

t = speech()


def export(
    target: Annotated[str, typer.Argument(help=t("cli.arg.run_target"))],
    form: Annotated[str, typer.Option("--as", help=t("cli.option.as"))] = "merged",
    base: Annotated[str, typer.Option(help=t("cli.option.base"))] = "trained",
    out: Annotated[Path | None, typer.Option(help=t("cli.option.out"))] = None,
    wait: Annotated[bool, typer.Option("--wait", help=t("cli.option.wait"))] = False,
    json: AsJson = False,
) -> None:
    with shell(json) as sh:
        _check_out(out)
        with sh.store.write() as session:
            exact = targets.resolve(session, target)
            job = exports.submit(session, {"target": exact.text, "form": form, "base": base})
        if not wait and out is None:
            sh.answer({"id": job.id, "state": str(job.state)}, [str(job.id)])
            return
        job = waiting.until_over(sh, job.id)
        result = _worded(job.result or {})
        answered = job.state == "failed" and bool(result)
        if answered:
            sh.answer({"id": job.id, "state": str(job.state), "reason": job.reason, **result}, _figures(result))
        waiting.refuse(sh, job, answered=answered)
        said = dict(result)
        if out is not None:
            said["path"] = str(copied(Path(said["path"]), out))
        said["files"] = said.get("files", [])
        files = [[one["name"], measure.size(one["bytes"])] for one in said["files"]]
        sh.answer({"id": job.id, **said}, [said["path"], *columns(files), *_figures(said)])


def copied(source: Path, out: Path) -> Path:
    """Copy an export into a folder that is new or empty: whole or not at all.

    Raises:
        ProblemError: it cannot be written.
    """
    target = out.expanduser().absolute()
    beside = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _copy(source, beside)
        if target.exists():
            target.rmdir()
        beside.rename(target)
    except OSError as error:
        shutil.rmtree(beside, ignore_errors=True)
        if error.errno in staging.FULL:
            raise ProblemError([problem("export_no_room", folder=str(target), source=str(source))]) from error
        raise ProblemError([problem("export_not_copied", folder=str(target), detail=error.strerror or "")]) from error
    return target


def _copy(source: Path, target: Path) -> None:
    """Like `shutil.copytree`, which keeps the number of the error to itself."""
    target.mkdir()
    for one in sorted(source.rglob("*")):
        place = target / one.relative_to(source)
        if one.is_dir():
            place.mkdir()
        else:
            shutil.copy2(one, place)


def _check_out(out: Path | None) -> None:
    """Refuse before the work what would be refused after it."""
    if out is None:
        return
    target = out.expanduser().absolute()
    if target.exists() and not target.is_dir():
        raise ProblemError([problem("usage_out_not_a_folder", folder=str(target))])
    if target.is_dir() and any(target.iterdir()):
        raise ProblemError([problem("usage_out_not_empty", folder=str(target))])
    parent = next(one for one in target.parents if one.exists())
    if not os.access(parent, os.W_OK):
        raise ProblemError([problem("export_not_copied", folder=str(target), detail=t("cli.no_permission"))])


def _worded(result: dict[str, Any]) -> dict[str, Any]:
    """Return a result whose caution is a sentence, as the commands print problems."""
    few = (result.get("checks") or {}).get("caution")
    if not few:
        return result
    return {**result, "checks": {**result["checks"], "caution": document(t, Problem.from_dict(few))}}


def _figures(said: dict[str, Any]) -> list[str]:
    checks = said.get("checks") or {}
    if "agreement" not in checks:
        return []
    shown = {
        "agreement": f"{100 * checks['agreement']:.2f}",
        "kl": measure.number(checks["kl"]),
        "num": checks["num_rows" if "compared" in checks else "num_tokens"],
    }
    caution = checks.get("caution")
    return [
        t(f"cli.export.figures.{checks.get('compared', 'tokens')}", **shown),
        *([caution["what"]] if caution else []),
    ]
