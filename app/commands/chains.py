"""`atelier chain run | list | show | repeat | stop | resume | delete`: runs in stages, headless."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from sqlalchemy.orm import Session

from app import chains
from app.commands import exits, models, train, waiting
from app.commands.jobs import iso, progress
from app.commands.shell import AsJson, Shell, columns, put, shell
from app.commands.speech import speech
from storage import chains as rows
from storage import metrics, stages
from storage.chains import Chain
from storage.jobs import Job
from storage.stages import Standing
from storage.states import FINAL, State

t = speech()
chain = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
Which = Annotated[str, typer.Argument(metavar="ID|NAME", help=t("cli.arg.chain"))]
Wait = Annotated[bool, typer.Option("--wait", help=t("cli.option.wait_chain"))]


@chain.command("run", help=t("cli.help.chain.run"))
def run(
    spec: Annotated[Path, typer.Argument(metavar="CHAIN.yaml", help=t("cli.arg.chain_spec"), allow_dash=True)],
    hold: Annotated[bool, typer.Option("--hold", help=t("cli.option.hold_chain"))] = False,
    wait: Wait = False,
    json: AsJson = False,
) -> None:
    with shell(json) as sh:
        wanted = train.read(spec)
        models.ensure_starter(sh)
        with sh.store.write() as session:
            made = chains.create(session, wanted, going=not hold)
        _answer(sh, made.id, wait=wait and not hold)


@chain.command("list", help=t("cli.help.chain.list"))
def listing(json: AsJson = False) -> None:
    with shell(json) as sh:
        with sh.store.read() as session:
            found = [summary(session, one) for one in rows.listing(session)]
        head = [t(f"cli.column.{name}") for name in ("id", "name", "state", "stages")]
        lines = [[one["id"], one["name"], t(f"chain.state.{one['state']}"), _count(one)] for one in found]
        sh.answer({"items": found}, columns([head, *lines]) if found else [t("cli.chain.none")])


@chain.command("show", help=t("cli.help.chain.show"))
def show(
    which: Which,
    yaml: Annotated[bool, typer.Option("--yaml", help=t("cli.option.chain_yaml"))] = False,
    json: AsJson = False,
) -> None:
    with shell(json) as sh:
        with sh.store.read() as session:
            one = chains.find(session, which)
            text = chains.as_yaml(one, rows.stages(session, one.id))
        if yaml and not json:
            put(text.rstrip())
            return
        _answer(sh, one.id, wait=False)


@chain.command("repeat", help=t("cli.help.chain.repeat"))
def repeat(
    which: Which,
    stage: Annotated[str, typer.Argument(help=t("cli.arg.stage"))],
    set: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help=t("cli.option.set"))] = None,
    following: Annotated[bool, typer.Option("--following", help=t("cli.option.following"))] = False,
    wait: Wait = False,
    json: AsJson = False,
) -> None:
    with shell(json) as sh:
        with sh.store.write() as session:
            one = chains.find(session, which)
            found = chains.stage_of(session, one.id, stage)
            if set:
                run_ = chains.with_settings(found.spec, set)
                rows.change_stage(session, found.id, chains.changed(session, found, run_))
            stages.repeat(session, found.id, following=following)
        _answer(sh, one.id, wait=wait)


@chain.command("stop", help=t("cli.help.chain.stop"))
def stop(which: Which, json: AsJson = False) -> None:
    with shell(json) as sh:
        with sh.store.write() as session:
            one = chains.find(session, which)
            stages.stop(session, one.id)
        _answer(sh, one.id, wait=False)


@chain.command("resume", help=t("cli.help.chain.resume"))
def resume(which: Which, wait: Wait = False, json: AsJson = False) -> None:
    with shell(json) as sh:
        with sh.store.write() as session:
            one = chains.find(session, which)
            stages.start(session, one.id)
        _answer(sh, one.id, wait=wait)


@chain.command("delete", help=t("cli.help.chain.delete"))
def delete(which: Which, json: AsJson = False) -> None:
    with shell(json) as sh:
        with sh.store.write() as session:
            one = chains.find(session, which)
            rows.delete(session, one.id)
        sh.answer({"id": one.id, "deleted": True}, [t("cli.chain.deleted", name=one.name)])


def summary(session: Session, one: Chain) -> dict[str, Any]:
    """Return a chain as the lists show it."""
    found = stages.standings(session, one.id)
    return {
        "id": one.id,
        "name": one.name,
        "state": stages.state_of(one, found),
        "going": one.going,
        "created_at": iso(one.created_at),
        "stages": [
            {"name": item.stage.name, "state": item.state, "outdated": item.outdated, "job_id": item.stage.job_id}
            for item in found
        ],
    }


def document(session: Session, one: Chain) -> dict[str, Any]:
    """Return everything that is known of a chain."""
    said = summary(session, one)
    for told, item in zip(said["stages"], stages.standings(session, one.id), strict=True):
        told |= _details(session, item)
    return said


def _details(session: Session, item: Standing) -> dict[str, Any]:
    run = item.job
    latest = metrics.latest(session, run.id) if run else {}
    return {
        "place": item.stage.place + 1,
        "start_from": run.spec["model"].get("start_from") if run else None,
        "progress": {"step": run.progress_step, "total_steps": run.progress_total} if run else None,
        "loss": latest.get("loss", (0, None))[1],
        "eval_loss": latest.get("eval_loss", (0, None))[1],
        "runs": [one.id for one in stages.runs(session, item.stage.id)],
        "spec": item.stage.spec,
    }


def _answer(sh: Shell, chain_id: int, *, wait: bool) -> None:
    """Print how the chain stands, once it has ended where that is waited for; then end as its last run ended."""
    last = _until_over(sh, chain_id) if wait else None
    with sh.store.read() as session:
        one = rows.get(session, chain_id)
        said = document(session, one)
        found = stages.standings(session, chain_id)
    sh.answer(said, _lines(sh, one, said["state"], found))
    if wait and last is not None:
        waiting.refuse(sh, last, answered=True)
    if wait and said["state"] != "done":
        raise typer.Exit(exits.Code.STOPPED)


def _until_over(sh: Shell, chain_id: int) -> Job | None:
    """Wait run by run, until a stage does not succeed or none is left; return the last run waited for."""
    last = None
    while True:
        with sh.store.write() as session:
            stages.advance(session, chain_id)
            found = stages.standings(session, chain_id)
        open_ = [(item.stage.name, item.job) for item in found if item.job is not None and item.job.state not in FINAL]
        if not open_:
            return last
        name, job = open_[0]
        sh.tell("cli.chain.stage", name=name, id=job.id)
        last = waiting.until_over(sh, job.id)
        if last.state != State.SUCCEEDED:
            return last


def _lines(sh: Shell, one: Chain, state: str, found: Sequence[Standing]) -> list[str]:
    head = [t(f"cli.column.{name}") for name in ("stage", "name", "state", "run", "progress")]
    lines = [[item.stage.place + 1, item.stage.name, _state(sh, item), *_run(item.job)] for item in found]
    return [f"{one.id}  {one.name}  {t(f'chain.state.{state}')}", *columns([head, *lines])]


def _state(sh: Shell, item: Standing) -> str:
    said = waiting.standing(sh, item.job) if item.job and not item.stage.wanted else t(f"stage.state.{item.state}")
    return f"{said} · {t('stage.outdated')}" if item.outdated else said


def _run(job: Job | None) -> list[str]:
    return ["–", "–"] if job is None else [f"#{job.id}", progress(job)]


def _count(one: dict[str, Any]) -> str:
    done = sum(item["state"] == State.SUCCEEDED for item in one["stages"])
    return f"{done}/{len(one['stages'])}"
