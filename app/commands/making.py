"""`atelier data make | drafts | keep | leave-out | collect`: rows that a model drafts and a person reads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import typer

from app import makeorders, overlay
from app.commands import datasets
from app.commands.shell import AsJson, Shell, describe, document, shell
from app.commands.speech import speech
from engine.specs.problem import Problem, ProblemError, problem
from storage import proposals
from storage.proposals import KEPT, LEFT_OUT, OPEN, VERDICTS, Proposal

t = speech()
Job = Annotated[int, typer.Argument(metavar="JOB", help=t("cli.arg.drafting"))]
Ids = Annotated[list[int] | None, typer.Argument(metavar="DRAFT…", help=t("cli.arg.drafts"))]
All = Annotated[bool, typer.Option("--all", help=t("cli.option.all_drafts"))]
MOST_LISTED = 100_000
FEW = 10


def make(
    name: Annotated[str, typer.Argument(help=t("cli.arg.dataset"))],
    recipe: Annotated[str, typer.Option(help=t("cli.option.recipe"))],
    by: Annotated[str, typer.Option(metavar="TARGET|URL", help=t("cli.option.by"))],
    model: Annotated[str | None, typer.Option(help=t("cli.option.server_model"))] = None,
    requests: Annotated[int, typer.Option(min=1, help=t("cli.option.requests"))] = FEW,
    all: Annotated[bool, typer.Option("--all", help=t("cli.option.all_rows"))] = False,
    set: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help=t("cli.option.set"))] = None,
    json: AsJson = False,
) -> None:
    with shell(json) as sh:
        server = {"kind": "endpoint", "url": by, "model": model or ""}
        generator = server if "://" in by else {"kind": "local", "target": by}
        told = {"recipe": {"kind": recipe}, "generator": generator, "requests": None if all else requests}
        with sh.store.write() as session:
            job = makeorders.draft(session, name, overlay.changed(told, set or []))
        over = datasets.done(sh, job)
        sh.answer({"id": job.id, **(over.result or {})}, _told(sh, job.id))


def go_on(
    job: Job,
    all: Annotated[bool, typer.Option("--all", help=t("cli.option.all_rows"))] = False,
    json: AsJson = False,
) -> None:
    with shell(json) as sh:
        with sh.store.write() as session:
            ordered = makeorders.go_on(session, job, with_all=all)
        over = datasets.done(sh, ordered)
        sh.answer({"id": ordered.id, **(over.result or {})}, _told(sh, ordered.id))


def drafts(
    job: Job,
    verdict: Annotated[str, typer.Option(help=t("cli.option.verdict"))] = OPEN,
    json: AsJson = False,
) -> None:
    with shell(json) as sh:
        if verdict not in VERDICTS:
            allowed = ", ".join(VERDICTS)
            raise ProblemError([problem("spec_not_a_choice", field="verdict", given=repr(verdict), allowed=allowed)])
        with sh.store.read() as session:
            makeorders.drafting(session, job)
            found = proposals.listing(session, job, verdict, limit=MOST_LISTED)
        lines = [line for one in found for line in _lines(sh, one)]
        sh.answer({"items": [_item(sh, one) for one in found]}, [*lines, *_told(sh, job)])


def keep(job: Job, ids: Ids = None, all: All = False, json: AsJson = False) -> None:
    _decide(job, ids, KEPT, all=all, json=json)


def leave_out(job: Job, ids: Ids = None, all: All = False, json: AsJson = False) -> None:
    _decide(job, ids, LEFT_OUT, all=all, json=json)


def collect(
    job: Job, name: Annotated[str, typer.Option(help=t("cli.option.derived_name"))], json: AsJson = False
) -> None:
    with shell(json) as sh:
        with sh.store.write() as session:
            ordered = makeorders.collect(session, job, name)
        said = datasets.done(sh, ordered).result or {}
        sh.answer({**said, "id": said["version_id"]}, [sh.t("cli.data.added", **said)])


def _decide(job: int, ids: Sequence[int] | None, verdict: str, *, all: bool, json: bool) -> None:
    with shell(json) as sh:
        if bool(ids) == all:
            raise ProblemError([problem("usage_drafts")])
        with sh.store.write() as session:
            makeorders.drafting(session, job)
            for one in ids or []:
                makeorders.draft_of(session, job, one)
            count = proposals.decide(session, job, ids or None, verdict)
        sh.answer({"id": job, "changed": count}, _told(sh, job))


def _told(sh: Shell, job: int) -> list[str]:
    with sh.store.read() as session:
        counts = proposals.counts(session, job)
    told = {name: getattr(counts, name) for name in VERDICTS}
    return [sh.t("cli.data.drafts", id=job, tokens_in=counts.tokens_in, tokens_out=counts.tokens_out, **told)]


def _item(sh: Shell, one: Proposal) -> dict[str, Any]:
    told = {"id": one.id, "verdict": one.verdict, "edited": one.edited, "row": one.source["row"]}
    if one.problem is not None:
        return {**told, "problem": document(sh.t, Problem.from_dict(one.problem))}
    question, answer, score = makeorders.texts_of(one)
    return {**told, "question": question, "answer": answer, "score": score}


def _lines(sh: Shell, one: Proposal) -> Iterable[str]:
    if one.problem is not None:
        yield f"{one.id}  {describe(sh.t, Problem.from_dict(one.problem))}"
        return
    question, answer, score = makeorders.texts_of(one)
    yield f"{one.id}  {question}" + (f"  [{score:g}]" if score is not None else "")
    yield f"    {answer}"
