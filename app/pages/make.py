"""Make data: a model drafts rows from documents or other rows; a person reads them; what is kept becomes a dataset."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from app import ids, makeform, makeorders, makeview, removal, reviewform
from app.frame import QUIET, every, on_load, orders, selection
from app.makeform import MakeForm
from app.panel import Panel
from app.refusal import refusal
from app.render import Html
from app.reviewform import Review
from app.ui import Ui
from engine.specs.problem import ProblemError
from storage import jobs, proposals
from storage.errors import StoreError
from storage.jobs import Job

LOOK_S = 1.0
MOST_LISTED = 60
Updates = dict[Any, Any]


@dataclass(frozen=True, slots=True)
class Parts:
    """The components of the page."""

    jobs: Panel
    nothing: Panel
    box: gr.Column
    form: MakeForm
    said: Panel
    detail: Panel
    review: Review
    made: Panel
    failed: Panel
    seen: gr.State
    """What is drawn, so that a look that finds nothing new changes nothing."""

    @property
    def looked_at(self) -> list[Any]:
        return [self.jobs, self.detail, self.made, self.failed, self.seen, *self.review.all]

    @property
    def drawn(self) -> list[Any]:
        return [*self.looked_at, self.nothing, self.box, self.said, *self.form.all]


def build(ui: Ui) -> None:
    """Lay the page out."""
    chosen, order = selection(), orders()
    parts = _layout(ui)
    form, review = parts.form, parts.review
    draw = partial(show, ui, parts)
    makeform.wire(ui, form)
    reviewform.wire(ui, review, chosen)
    started = form.start.click(partial(start, ui, form), form.inputs, [chosen, parts.said], **QUIET)
    started.then(draw, chosen, parts.drawn, **QUIET)
    chosen.change(draw, chosen, parts.drawn, **QUIET)
    obeyed = order.change(partial(obey, ui), [order], [chosen, parts.said], **QUIET)
    obeyed.then(draw, chosen, parts.drawn, **QUIET)

    def opened(request: gr.Request) -> Updates:
        asked = request.query_params
        number = asked.get("job", "")
        return {**show(ui, parts, number, dataset=asked.get("dataset")), chosen: number}

    on_load(opened, outputs=[chosen, *parts.drawn])
    watched: list[Any] = [chosen, parts.seen, review.which, review.current]
    every(LOOK_S, partial(look, ui, parts), inputs=watched, outputs=parts.looked_at)


def _layout(ui: Ui) -> Parts:
    with gr.Row(elem_classes=["at-split"]):
        with gr.Column(elem_classes=["at-list"]):
            Panel(makeview.top(ui.t))
            listed = Panel(elem_id="make-jobs")
        with gr.Column(elem_classes=["at-detail"]):
            nothing = Panel(elem_id="make-nothing")
            with gr.Column(visible=False) as box:
                form = makeform.build(ui)
            said, detail = Panel(elem_id="make-said"), Panel(elem_id="make-detail")
            review = reviewform.build(ui)
            made, without = Panel(elem_id="make-made"), Panel(elem_id="make-failed")
    return Parts(listed, nothing, box, form, said, detail, review, made, without, gr.State(()))


def start(ui: Ui, form: MakeForm, *values: Any) -> tuple[Any, Html | None]:
    """Queue a drafting job."""
    dataset, spec = makeform.spec_of(form, values)
    try:
        with ui.store.write() as session:
            job = makeorders.draft(session, dataset, spec)
    except (ProblemError, StoreError) as error:
        return gr.skip(), refusal(makeform.named(error, ui.t), ui.t)
    return str(job.id), None


def show(ui: Ui, parts: Parts, chosen: str, *, dataset: str | None = None) -> Updates:
    """Draw the page for its address: a job with its drafts, or the form for a new one."""
    job = reviewform.job_of(ui, chosen)
    form, is_empty = makeform.show(ui, parts.form, dataset)
    return {
        **_drawn(ui, parts, job),
        **reviewform.show(ui, parts.review, job),
        **form,
        parts.box: gr.update(visible=job is None and not is_empty),
        parts.nothing: makeview.nothing(ui.t) if job is None and is_empty else None,
    }


def look(ui: Ui, parts: Parts, chosen: str, seen: Any, which: str, current: str) -> Updates:
    """Draw what has changed; what a person is reading stays."""
    job = reviewform.job_of(ui, chosen)
    drawn = _drawn(ui, parts, job)
    if list(drawn[parts.seen]) == list(seen):
        return {parts.seen: gr.skip()}
    return {**drawn, **reviewform.look(ui, parts.review, job, which, current)}


def _drawn(ui: Ui, parts: Parts, job: Job | None) -> Updates:
    with ui.store.read() as session:
        found = makeorders.listing(session, MOST_LISTED)
        counts = proposals.counts(session, job.id) if job else None
        failed = proposals.listing(session, job.id, proposals.FAILED, limit=makeview.MOST_FAILURES) if job else []
    listed = makeview.listing(found, job.id if job else None, ui.t)
    shown = makeview.detail(ui, job, counts) if job and counts else None
    made = reviewform.made(ui, job)
    without = makeview.failures(failed, counts.failed, ui.t) if counts else None
    drawn = {parts.jobs: listed, parts.detail: shown, parts.made: made, parts.failed: without}
    return {**drawn, parts.seen: tuple(str(one) for one in drawn.values())}


def obey(ui: Ui, order: str) -> tuple[Any, Html | None]:
    """Carry out a button of the detail: `verb:id`, and a number that tells two equal orders apart."""
    verb, _, rest = order.partition(":")
    number = ids.number(rest.partition(":")[0])
    if verb not in ORDERS or number is None or reviewform.job_of(ui, str(number)) is None:
        return gr.skip(), None
    try:
        return ORDERS[verb](ui, number), None
    except StoreError as error:
        return gr.skip(), refusal(error, ui.t)


def _cancel(ui: Ui, job_id: int) -> str:
    with ui.store.write() as session:
        jobs.cancel(session, job_id)
    return str(job_id)


def _again(ui: Ui, job_id: int, *, with_all: bool = False) -> str:
    with ui.store.write() as session:
        return str(makeorders.go_on(session, job_id, with_all=with_all).id)


def _delete(ui: Ui, job_id: int) -> str:
    removal.delete_job(ui.store, ui.home, job_id)
    return ""


ORDERS: dict[str, Callable[[Ui, int], str]] = {
    "cancel": _cancel,
    "again": _again,
    "all": partial(_again, with_all=True),
    "delete": _delete,
}
"""What a button asks for → the address that the page shows then."""
