"""`atelier merge A B [C …] --method NAME`: several checkpoints or models become one."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from app import merges, overlay
from app.commands import waiting
from app.commands.jobs import document
from app.commands.shell import AsJson, shell
from app.commands.speech import speech
from engine.merging import MERGES

t = speech()


def merge(
    targets: Annotated[list[str], typer.Argument(metavar="A B …", help=t("cli.arg.merge_targets"))],
    method: Annotated[str, typer.Option(metavar="|".join(MERGES), help=t("cli.option.merge_method"))] = "linear",
    weights: Annotated[str | None, typer.Option(metavar="W,W,…", help=t("cli.option.merge_weights"))] = None,
    set: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help=t("cli.option.merge_set"))] = None,
    form: Annotated[str, typer.Option("--as", metavar="auto|adapter|weights", help=t("cli.option.merge_as"))] = "auto",
    base: Annotated[str | None, typer.Option(metavar="base:MODEL", help=t("cli.option.merge_base"))] = None,
    data: Annotated[str | None, typer.Option(metavar="DATASET", help=t("cli.option.merge_data"))] = None,
    name: Annotated[str, typer.Option(help=t("cli.option.merge_name"))] = "merge",
    density: Annotated[float | None, typer.Option(help=t("cli.option.merge_density"))] = None,
    decay: Annotated[float | None, typer.Option(help=t("cli.option.merge_decay"))] = None,
    wait: Annotated[bool, typer.Option("--wait", help=t("cli.option.wait_merge"))] = False,
    json: AsJson = False,
) -> None:
    with shell(json) as sh:
        own = {key: value for key, value in (("density", density), ("decay", decay)) if value is not None}
        told = {"form": form, "base": base, "data": data, "name": name, "method": {"kind": method, **own}}
        wanted = overlay.changed({**told, "sources": merges.weighted(targets, weights)}, set or [])
        with sh.store.write() as session:
            job = merges.submit(session, wanted)
        if wait:
            job = waiting.until_over(sh, job.id)
        with sh.store.read() as session:
            said: dict[str, Any] = document(session, job) if wait else {"id": job.id, "state": str(job.state)}
        sh.answer(said, [f"{job.id}  {waiting.why(sh, job)}"] if wait else [str(job.id)])
        if wait:
            waiting.refuse(sh, job, answered=True)
