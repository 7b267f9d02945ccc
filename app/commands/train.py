"""`atelier train SPEC.yaml`: a run from a file, headless."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from datetime import datetime, time, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from app import submission
from app.commands import models, waiting
from app.commands.jobs import document
from app.commands.shell import AsJson, Shell, say, shell
from app.commands.speech import speech
from app.overlay import changed
from app.queuemoves import PRIORITIES, Level
from app.reasons import Reason, sentence
from engine.advice.advice import Advice
from engine.advice.presets import complete, presets
from engine.specs.problem import ProblemError, problem
from storage import jobs
from storage.jobs import SubmitOptions

t = speech()
MAX_SPEC_BYTES = 10**6


def train(
    spec: Annotated[Path, typer.Argument(metavar="SPEC.yaml", help=t("cli.arg.spec"), allow_dash=True)],
    set: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help=t("cli.option.set"))] = None,
    preset: Annotated[
        str | None, typer.Option(metavar="NAME", help=t("cli.option.preset", allowed=", ".join(presets())))
    ] = None,
    hold: Annotated[bool, typer.Option("--hold", help=t("cli.option.hold"))] = False,
    priority: Annotated[Level, typer.Option(help=t("cli.option.priority"))] = "normal",
    after: Annotated[str | None, typer.Option(metavar="TIME", help=t("cli.option.after"))] = None,
    wait: Annotated[bool, typer.Option("--wait", help=t("cli.option.wait"))] = False,
    json: AsJson = False,
) -> None:
    with shell(json) as sh:
        wanted, put = changed(read(spec), set or []), dict[str, Advice]()
        if preset is not None:
            wanted, put = complete(wanted, preset)
            _tell_preset(sh, preset, put)
        run_after = None if after is None else moment(after, datetime.now())
        options = SubmitOptions(priority=PRIORITIES[priority], held=hold, run_after=run_after)
        models.ensure_starter(sh)
        with sh.store.write() as session:
            ready = submission.prepare(session, wanted)
            job = submission.submit(session, ready, options)
        if wait:
            sh.tell("cli.train.queued", id=job.id)
            job = waiting.until_over(sh, job.id)
        with sh.store.read() as session:
            said = document(session, job)
        taken = {"preset": {path: one.value for path, one in put.items()}} if preset is not None else {}
        sh.answer(
            {**(said if wait else {}), "id": job.id, "state": str(job.state), **taken},
            _lines(sh, job, wait),
        )
        if wait:
            waiting.refuse(sh, job, answered=True)


def _tell_preset(sh: Shell, name: str, put: Mapping[str, Advice]) -> None:
    """Say what a preset has filled in, and why; beside the answer, so that a script reads the id alone."""
    sh.tell("cli.train.preset" if put else "cli.train.preset_none", name=t.get(f"preset.{name}", name))
    for path, one in put.items():
        say(f"  {path}: {yaml.safe_dump(one.value).splitlines()[0]}  # {sentence(Reason.of(one), t)}")


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


def moment(said: str, here: datetime) -> float:
    """Return when that is, in seconds since the epoch: a date with or without a time, or the next such time of day.

    Raises:
        ProblemError: it is neither.
    """
    for read_as in (datetime.fromisoformat, lambda text: _next(time.fromisoformat(text), here)):
        try:
            return read_as(said).timestamp()
        except (ValueError, OverflowError):
            continue
    raise ProblemError([problem("usage_after", given=said)])


def _next(at: time, here: datetime) -> datetime:
    today = datetime.combine(here, at)
    return today if today.timestamp() > here.timestamp() else today + timedelta(days=1)


def _lines(sh: Shell, job: jobs.Job, wait: bool) -> list[str]:
    """Without --wait the id alone, so that a script can take it."""
    return [f"{job.id}  {waiting.why(sh, job)}"] if wait else [str(job.id)]
