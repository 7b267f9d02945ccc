"""What the Models page shows of merges: each with what it is made of, how it stands, and where one can go with it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from sqlalchemy.orm import Session

from app import run_list
from app.language import Text
from app.measure import number
from app.render import Html, bar, button_link, card, chip, problems, tag
from app.ui import Ui
from engine.specs.problem import Problem
from storage import checkpoints, jobs
from storage.errors import NotFound
from storage.jobs import Job
from storage.states import FINAL, State
from storage.targets import BASE

MOST_LISTED = 20


def listing(ui: Ui, session: Session, chosen: int | None) -> Html:
    """Return the newest merges; the one of the address stands out."""
    found = jobs.listing(session, kinds=["merge"], limit=MOST_LISTED)
    cards = [_card(ui, session, job, job.id == chosen) for job in found]
    return tag("div", *cards, cls="at-stack at-merges") if cards else Html("")


def _card(ui: Ui, session: Session, job: Job, chosen: bool) -> Html:
    t = ui.t
    words, tone = run_list.state_words(t, job, jobs.queue_position(session, job.id), time.time())
    parts = [tag("p", made_of(t, job.spec, partial(_called, session, t)), cls="at-soft at-small")]
    if job.state == State.RUNNING:
        total = job.progress_total
        parts.append(bar((job.progress_step or 0) / total if total else None, label=job.name))
    if job.state == State.SUCCEEDED:
        parts.append(tag("p", result(t, job.result or {}), cls="at-small"))
    if job.state == State.FAILED:
        parts.append(_failed(ui, job))
    best = checkpoints.best(session, job.id)
    parts.append(tag("div", *_ways(t, job, None if best is None else best.step), cls="at-job-do"))
    title = f"{job.name} #{job.id}"
    return card(*parts, title=title, aside=chip(words, tone), tone="accent" if chosen else "")


def made_of(t: Text, spec: Mapping[str, Any], called: Callable[[str], str]) -> str:
    """Return method and sources in one line; weights where they differ."""
    found: Sequence[Mapping[str, Any]] = spec["sources"]
    equal = len({one["weight"] for one in found}) == 1
    named = [called(one["target"]) + ("" if equal else f" × {number(one['weight'])}") for one in found]
    kind = str(spec["method"]["kind"])
    return f"{t(f'merge.method.{kind}')} · {' + '.join(named)}"


def _called(session: Session, t: Text, target: str) -> str:
    """The name of a source: of a checkpoint its run and step, while that run is there."""
    run, _, step = target.partition("@")
    if not step:
        return target.removeprefix(BASE)
    try:
        return t("merge.source", run=jobs.get(session, int(run)).name, step=step)
    except NotFound:
        return target


def result(t: Text, found: Mapping[str, Any]) -> str:
    """Return what it has become."""
    if found.get("form") == "adapter":
        return t("merge.result.adapter", rank=found.get("rank"), kept=f"{100 * float(found.get('kept') or 1):.1f}")
    return t("merge.result.weights", dtype=found.get("dtype", ""))


def _failed(ui: Ui, job: Job) -> Html:
    raw: Any = job.values.get("problems")
    found = [Problem.from_dict(item) for item in raw] if isinstance(raw, list) else []
    return problems(found, ui.t) if found else tag("p", ui.reason(job.reason, job.values))


def _ways(t: Text, job: Job, step: int | None) -> list[Html]:
    ways = []
    if step is not None:
        target = f"{job.id}@{step}"
        ways += [
            button_link(t("runs.chat_with", step=step), f"/chat?target={target}", small=True),
            button_link(t("runs.export"), f"/export?target={target}", small=True),
        ]
    verbs = ["merge_delete"] if job.state in FINAL else ["merge_cancel"]
    verbs = ["merge_retry", *verbs] if job.state in (State.FAILED, State.CANCELLED) else verbs
    return [*ways, *(_do(t, verb, job.id) for verb in verbs)]


def _do(t: Text, verb: str, job_id: int) -> Html:
    return tag("button", t(f"merge.do.{verb}"), type="button", cls="at-button at-small", data_order=f"{verb}:{job_id}")
