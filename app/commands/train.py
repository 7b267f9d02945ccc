"""`atelier train SPEC.yaml`: a run from a file, headless."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from app import submission
from app.commands import models, waiting
from app.commands.jobs import document
from app.commands.shell import AsJson, Shell, shell
from app.commands.speech import speech
from engine.specs.problem import ProblemError, problem
from storage import jobs

t = speech()
MAX_SPEC_BYTES = 10**6


def train(
    spec: Annotated[Path, typer.Argument(metavar="SPEC.yaml", help=t("cli.arg.spec"), allow_dash=True)],
    set: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help=t("cli.option.set"))] = None,
    wait: Annotated[bool, typer.Option("--wait", help=t("cli.option.wait"))] = False,
    json: AsJson = False,
) -> None:
    with shell(json) as sh:
        wanted = changed(read(spec), set or [])
        models.ensure_starter(sh)
        with sh.store.write() as session:
            ready = submission.prepare(session, wanted)
            job = submission.submit(session, ready)
        if wait:
            sh.tell("cli.train.queued", id=job.id)
            job = waiting.until_over(sh, job.id)
        with sh.store.read() as session:
            said = document(session, job)
        sh.answer(
            {**said, "id": job.id, "state": str(job.state)} if wait else {"id": job.id, "state": str(job.state)},
            _lines(sh, job, wait),
        )
        if wait:
            waiting.refuse(sh, job, answered=True)


def read(path: Path) -> dict[str, Any]:
    """Read a spec file.

    Raises:
        ProblemError: it is not there, too large, no YAML, or no mapping.
    """
    try:
        text = sys.stdin.read(MAX_SPEC_BYTES + 1) if str(path) == "-" else path.read_text("utf-8")[: MAX_SPEC_BYTES + 1]
        found = yaml.safe_load(text) if len(text) <= MAX_SPEC_BYTES else None
    except (OSError, UnicodeDecodeError) as error:
        raise ProblemError([problem("spec_unreadable", file=path.name, detail=str(error))]) from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        detail = str(getattr(error, "problem", "") or type(error).__name__)
        found_at = None if line is None else line + 1
        raise ProblemError([problem("spec_not_yaml", line=found_at, file=path.name, detail=detail)]) from error
    if not isinstance(found, dict):
        raise ProblemError([problem("spec_not_a_mapping", file=path.name)])
    return found


def changed(wanted: dict[str, Any], settings: Sequence[str]) -> dict[str, Any]:
    """Return the spec with `--set a.b=value` put in.

    Raises:
        ProblemError: a setting is not KEY=VALUE, or leads into something that is no section.
    """
    for setting in settings:
        key, equals, value = setting.partition("=")
        names = key.split(".")
        if not equals or not all(names):
            raise ProblemError([problem("usage_set", given=setting)])
        section = wanted
        for name in names[:-1]:
            if section.get(name) is None:
                section[name] = {}
            section = section[name]
            if not isinstance(section, dict):
                raise ProblemError([problem("usage_set", given=setting)])
        try:
            section[names[-1]] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ProblemError([problem("usage_set", given=setting)]) from error
    return wanted


def _lines(sh: Shell, job: jobs.Job, wait: bool) -> list[str]:
    """Without --wait the id alone, so that a script can take it."""
    return [f"{job.id}  {waiting.why(sh, job)}"] if wait else [str(job.id)]
