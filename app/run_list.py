"""The list of runs, and how a run's state reads."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from app.curves import chart_names
from app.language import Text
from app.measure import number, when
from app.render import Html, chip, link, sparkline, tag
from storage import jobs, metrics
from storage.jobs import Job
from storage.states import State

MOST_RUNS = 100
SPARK_POINTS = 60
MOST_SPARKS = 400
DISK_FULL = "disk_full"
BEHIND_COLON = re.compile("[:：].*")
Spark = tuple[list[float | None], float | None]


@dataclass(frozen=True, slots=True)
class Entry:
    """A run with what the list shows of it."""

    job: Job
    position: int | None
    points: Sequence[float | None]
    """Of the curve that the run is judged by."""
    last: float | None


class Sparks:
    """The small curves of the list, read again only where points were added."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[int, int, int], Spark] = OrderedDict()

    def of(self, session: Session, job: Job) -> Spark:
        here = metrics.cursor(session, job.id)
        key = (job.id, here.version, here.generation)
        if key not in self._known:
            self._known[key] = _points(session, job.id, chart_names(job.spec)[0])
            if len(self._known) > MOST_SPARKS:
                self._known.popitem(last=False)
        return self._known[key]


def _points(session: Session, job_id: int, name: str) -> Spark:
    points = metrics.series(session, job_id, names=[name], limit=SPARK_POINTS).get(name, [])
    return [value for _, value in points], points[-1][1] if points else None


def entries(session: Session, sparks: Sparks) -> list[Entry]:
    """Read the runs, newest first."""
    found = jobs.listing(session, kinds=["train"], limit=MOST_RUNS)
    return [Entry(job, jobs.queue_position(session, job.id), *sparks.of(session, job)) for job in found]


def state_words(t: Text, job: Job, position: int | None, now: float) -> tuple[str, str]:
    """Return how the state of a job reads, and its tone."""
    if job.state == State.RUNNING:
        return _running(t, job), "accent"
    if job.state == State.QUEUED:
        return _queued(t, job, position, now), "waiting"
    if job.state == State.SUCCEEDED:
        return t.either(f"reason.{job.reason}.short", "state.succeeded", **job.values), "good"
    if job.state == State.FAILED:
        return t.either(f"reason.{job.reason}.short", "state.failed", **job.values), "bad"
    return t("state.cancelled"), "plain"


def _running(t: Text, job: Job) -> str:
    if job.cancel_requested_at is not None:
        return t("state.cancelling")
    if job.stop_requested_at is not None:
        return t("state.stopping")
    if job.pause_requested_at is not None:
        return t("state.pausing")
    return t.either(f"phase.{job.phase}", "state.running")


def _queued(t: Text, job: Job, position: int | None, now: float) -> str:
    if job.held:
        return t("state.paused" if job.attempt else "state.held")
    if job.reason == DISK_FULL:
        return t("state.disk")
    if job.run_after is not None and job.run_after > now:
        return t("state.again" if job.attempt else "state.later", at=when(t, job.run_after, now))
    return t("state.queued", position=position or "")


def method(t: Text, spec: Mapping[str, Any]) -> str:
    """Return the method in a word or two: QLoRA, DPO · LoRA."""
    objective, tuner, model = (spec.get(part) or {} for part in ("objective", "tuner", "model"))
    kind, base = tuner.get("kind"), model.get("quantization")
    how = _short(t, "tuner", kind)
    how = t.get(f"runs.method.{kind}.{base}") or t.get(f"runs.method.{base}", how, tuner=how)
    return f"{_short(t, 'objective', objective.get('kind'))} · {how}"


def _short(t: Text, catalogue: str, kind: object) -> str:
    """Return the name of an entry without what it explains behind a colon."""
    return BEHIND_COLON.sub("", t.get(f"{catalogue}.{kind}", str(kind)))


def subtitle(t: Text, spec: Mapping[str, Any]) -> str:
    """Return method, model and data of a run in one line."""
    model, data = spec.get("model") or {}, spec.get("data") or {}
    start = model.get("start_from")
    origin = t("runs.from", run=start) if start else str(model.get("id", ""))
    version = f" v{data['version']}" if data.get("version") else ""
    return " · ".join((method(t, spec), origin, f"{data.get('dataset', '')}{version}"))


def listing(t: Text, found: Sequence[Entry], chosen: int | None, now: float) -> Html:
    """Return the list; each entry selects its run."""
    return tag("nav", *(_card(t, entry, chosen, now) for entry in found), cls="at-runs", aria_label=t("page.runs"))


def _card(t: Text, entry: Entry, chosen: int | None, now: float) -> Html:
    job = entry.job
    words, tone = state_words(t, job, entry.position, now)
    top = tag("span", tag("strong", job.name, title=job.name), chip(words, tone), cls="at-run-line")
    below = tag("span", subtitle(t, job.spec), cls="at-soft")
    title = t(f"chart.{chart_names(job.spec)[0]}.title")
    figures = (sparkline(entry.points) or tag("span"), tag("b", number(entry.last), title=title))
    foot = tag("span", *figures, cls="at-run-line at-run-foot") if entry.points else ""
    current = "true" if job.id == chosen else None
    return link(top + below + foot, f"/runs?run={job.id}", cls="at-run", data_select=job.id, aria_current=current)
