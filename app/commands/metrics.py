"""`atelier metrics`: the curves of a run."""

from __future__ import annotations

import csv
import io
from typing import Annotated

import typer

from app import measure
from app.commands.jobs import Id
from app.commands.shell import AsJson, columns, put, shell
from app.commands.speech import speech
from storage import jobs, metrics

t = speech()


def curves(
    id: Id,
    name: Annotated[list[str] | None, typer.Option(help=t("cli.option.curve"))] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help=t("cli.option.csv"))] = False,
    json: AsJson = False,
) -> None:
    with shell(json) as sh:
        with sh.store.read() as session:
            jobs.get(session, id)
            series = metrics.series(session, id, names=name or None, limit=1_000_000)
        if as_csv and not json:
            put(_csv(series).rstrip("\n"))
            return
        rows = [[key, *_ends(points)] for key, points in series.items()]
        head = [t(f"cli.column.{key}") for key in ("curve", "points", "first", "last", "least")]
        sh.answer({"series": series}, columns([head, *rows]) if rows else [t("cli.metrics.none")])


def _ends(points: list[tuple[int, float | None]]) -> list[str]:
    known = [value for _, value in points if value is not None]
    ends = (points[0][1], points[-1][1], min(known, default=None)) if points else (None, None, None)
    return [str(len(points)), *map(measure.number, ends)]


def _csv(series: metrics.Series) -> str:
    """Return one line for each step, a column for each curve."""
    steps: dict[int, dict[str, float | None]] = {}
    for name, points in series.items():
        for step, value in points:
            steps.setdefault(step, {})[name] = value
    out = io.StringIO()
    writer = csv.DictWriter(out, ["step", *series], lineterminator="\n")
    writer.writeheader()
    writer.writerows({"step": step, **values} for step, values in sorted(steps.items()))
    return out.getvalue()
