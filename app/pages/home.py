"""Home: what is running, what finished, what to do next; at the first visit three steps and the rehearsal."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr
from sqlalchemy.orm import Session

from app import frame, rehearsal, run_list
from app.language import Text
from app.measure import duration, number
from app.panel import Panel
from app.refusal import refusal
from app.render import Html, bar, button_link, card, chip, columns, empty, heading, link, note, steps, tag
from app.ui import Ui
from engine.specs.problem import ProblemError
from storage import checkpoints, datasets, jobs, metrics
from storage.checkpoints import Checkpoint
from storage.jobs import Job
from storage.states import FINAL, State

TICK_S = 1.5
MOST_FINISHED = 6
MOST_OPEN = 12
PLACES = {"train": "/runs?run={id}", "import": "/data", "add_model": "/models", "export": "/export", "trial": "/train"}


@dataclass(frozen=True, slots=True)
class Scene:
    """What Home shows, read in one transaction."""

    open: Sequence[tuple[Job, int | None, float | None]]
    finished: Sequence[tuple[Job, float | None]]
    num_datasets: int
    latest: Job | None
    """The newest run that ended well and has a checkpoint."""


def build(ui: Ui) -> None:
    """Lay out the page."""
    seen = gr.State("")
    Panel(heading(ui.t("home.title"), ui.t("home.lead")))
    scene = Panel(elem_id="at-home")
    with gr.Column(elem_id="at-rehearsal"):
        Panel(tag("div", tag("h2", ui.t("rehearsal.title")), tag("p", ui.t("rehearsal.what"), cls="at-soft")))
        with gr.Row(elem_classes=["at-buttons"]):
            button = gr.Button(ui.t("rehearsal.begin"), variant="primary", elem_id="at-rehearse")
        said = Panel(elem_id="at-rehearsal-said")
    show = partial(refresh, ui)
    frame.on_load(show, outputs=[scene, seen])
    frame.every(TICK_S, show, inputs=[seen], outputs=[scene, seen])
    button.click(partial(rehearse, ui), None, [said], **{**frame.QUIET, "queue": True}, concurrency_limit=2)


def read(session: Session) -> Scene:
    """Read what Home shows."""
    waiting = jobs.listing(session, states=[State.RUNNING, State.QUEUED], limit=MOST_OPEN)
    ordered = sorted(waiting, key=_turn)
    ended = jobs.listing(session, kinds=["train", "export"], states=list(FINAL), limit=MOST_FINISHED)
    good = (job for job in ended if job.kind == "train" and job.state == State.SUCCEEDED)
    return Scene(
        open=[(job, jobs.queue_position(session, job.id), metrics.pace_s(session, job.id)) for job in ordered],
        finished=[(job, metrics.latest(session, job.id).get("loss", (0, None))[1]) for job in ended],
        num_datasets=len(datasets.listing(session)),
        latest=next((job for job in good if _talks(checkpoints.best(session, job.id))), None),
    )


def _talks(best: Checkpoint | None) -> bool:
    return best is not None and best.head == "language"


def _turn(job: Job) -> tuple[bool, int, float, int]:
    """What runs, then what waits in the order in which it is taken."""
    return job.state != State.RUNNING, -job.priority, job.id if job.rank is None else job.rank, job.id


def refresh(ui: Ui, seen: str = "") -> Any:
    """Return the page, if it differs from what is shown."""
    with ui.store.read() as session:
        scene = read(session)
    drawn = draw(ui.t, scene, time.time())
    digest = hashlib.sha1(drawn.encode(), usedforsecurity=False).hexdigest()
    return gr.skip() if digest == seen else (drawn, digest)


def draw(t: Text, scene: Scene, now: float) -> Html:
    """Return what is running, what finished, and what to do next."""
    if not scene.open and not scene.finished:
        return _welcome(t)
    opened = [_open(t, *item, now) for item in scene.open]
    ended = [_finished(t, *item, now) for item in scene.finished]
    running = card(_stack(opened), title=t("home.running")) if opened else empty(t("home.idle"), t("home.idle_text"))
    finished = [card(_stack(ended), title=t("home.finished"))] if ended else []
    return columns(running, _stack([_next(t, scene), *finished]))


def _stack(parts: Sequence[object]) -> Html:
    return tag("div", *parts, cls="at-stack")


def _welcome(t: Text) -> Html:
    items = [
        (link(t(f"home.step.{name}"), f"/{name}"), t(f"home.step.{name}.text")) for name in ("data", "train", "runs")
    ]
    return card(steps(items), title=t("home.welcome"))


def _open(t: Text, job: Job, position: int | None, pace_s: float | None, now: float) -> Html:
    words, tone = run_list.state_words(t, job, position, now)
    top = tag("span", tag("strong", job.name), chip(words, tone), cls="at-run-line")
    running = job.state == State.RUNNING
    total = job.progress_total
    share = (job.progress_step or 0) / total if total else None
    left = duration(t, pace_s * (total - (job.progress_step or 0))) if running and pace_s and total else ""
    about = " · ".join(part for part in (_kind(t, job), t("runs.left", time=left) if left else "") if part)
    drawn = bar(share, label=job.name) if running else ""
    return link(top + tag("span", about, cls="at-soft") + drawn, _place(job), cls="at-run")


def _finished(t: Text, job: Job, loss: float | None, now: float) -> Html:
    words, tone = run_list.state_words(t, job, None, now)
    top = tag("span", tag("strong", job.name), chip(words, tone), cls="at-run-line")
    figure = tag("b", t("home.loss", loss=number(loss))) if loss is not None else ""
    return link(
        top + tag("span", tag("span", _kind(t, job), cls="at-soft"), figure, cls="at-run-line"),
        _place(job),
        cls="at-run",
    )


def _kind(t: Text, job: Job) -> str:
    return run_list.subtitle(t, job.spec) if job.kind == "train" else t(f"kind.{job.kind}")


def _place(job: Job) -> str:
    return PLACES.get(job.kind, "/runs").format(id=job.id)


def _next(t: Text, scene: Scene) -> Html:
    if scene.latest is not None:
        name, target = scene.latest.name, f"/chat?target={scene.latest.id}"
        return note(
            t("home.next"), t("home.next.chat", name=name), action=button_link(t("page.chat"), target, small=True)
        )
    if scene.num_datasets:
        return note(t("home.next"), t("home.next.train"), action=button_link(t("page.train"), "/train", small=True))
    return note(t("home.next"), t("home.next.data"), action=button_link(t("page.data"), "/data", small=True))


def rehearse(ui: Ui) -> Iterator[Html]:
    """Prepare and queue the rehearsal; what happens meanwhile is said."""
    try:
        for progress in rehearsal.begin(ui):
            to = f"/runs?run={progress.job.id}" if progress.job else ""
            yield frame.go(to) if to else note("", ui.t(f"rehearsal.{progress.code}"), tone="plain")
    except ProblemError as error:
        yield refusal(error, ui.t)
