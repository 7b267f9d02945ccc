"""Reading drafts: one after another beside what it was made from, kept as it is or as it was changed, or left out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from app import ids, makeorders, makeview
from app.frame import QUIET
from app.measure import number
from app.panel import Panel
from app.refusal import refusal
from app.render import Html, note, tag
from app.ui import Ui
from engine.specs.problem import ProblemError
from storage import proposals
from storage.errors import StoreError
from storage.jobs import Job
from storage.proposals import KEPT, LEFT_OUT, OPEN, Proposal

SHOWN = (OPEN, KEPT, LEFT_OUT)
Updates = dict[Any, Any]


@dataclass(frozen=True, slots=True)
class Review:
    """Its components."""

    box: gr.Column
    which: gr.Radio
    left: Panel
    reading: gr.Column
    question: gr.Textbox
    answer: gr.Textbox
    score: gr.Number
    keep: gr.Button
    leave_out: gr.Button
    skip: gr.Button
    keep_all: gr.Button
    ending: gr.Row
    name: gr.Textbox
    collect: gr.Button
    current: gr.Textbox
    """The id of the draft that is shown; in the browser, so that it comes with the texts that belong to it."""
    said: Panel

    @property
    def all(self) -> list[Any]:
        return [getattr(self, name) for name in Review.__dataclass_fields__]


def build(ui: Ui) -> Review:
    """Lay it out, hidden."""
    t = ui.t
    with gr.Column(visible=False, elem_classes=["at-review"]) as box:
        choices = [(t(f"make.which.{one}", n=0), one) for one in SHOWN]
        which = gr.Radio(choices, value=OPEN, label=t("make.which"), elem_id="review-which")
        left = Panel(elem_id="review-source")
        with gr.Column(visible=False) as reading:
            question = gr.Textbox(label=t("make.question"), lines=2, max_lines=12, elem_id="review-question")
            answer = gr.Textbox(label=t("make.answer"), lines=4, max_lines=30, elem_id="review-answer")
            score = gr.Number(label=t("make.score"), visible=False, elem_id="review-score")
            with gr.Row(elem_classes=["at-buttons"]):
                keep = gr.Button(t("make.keep"), variant="primary", size="md", elem_id="review-keep")
                leave_out = gr.Button(t("make.leave_out"), size="md", elem_id="review-leave-out")
                skip = gr.Button(t("make.skip"), size="md", elem_id="review-skip")
                keep_all = gr.Button(t("make.keep_all"), size="md", elem_id="review-keep-all")
        current = gr.Textbox(visible="hidden", show_label=False, container=False, elem_id="review-current")
        said = Panel(elem_id="review-said")
        with gr.Row(elem_classes=["at-tools"], visible=False) as ending:
            name = gr.Textbox(label=t("make.name"), info=t("make.name.help"), max_lines=1, elem_id="review-name")
            collect = gr.Button(t("make.collect"), size="md", elem_id="review-collect")
    texts = (question, answer, score, keep, leave_out, skip, keep_all)
    return Review(box, which, left, reading, *texts, ending, name, collect, current, said)


def wire(ui: Ui, review: Review, chosen: gr.Textbox) -> None:
    """Let its buttons act; `chosen` holds the job's id."""
    place: list[Any] = [chosen, review.which, review.current]
    texts: list[Any] = [review.question, review.answer, review.score]
    review.keep.click(partial(keep, ui, review), [*place, *texts], review.all, **QUIET)
    review.leave_out.click(partial(leave_out, ui, review), place, review.all, **QUIET)
    review.skip.click(partial(turn, ui, review), place, review.all, **QUIET)
    review.which.input(partial(turn, ui, review), [chosen, review.which], review.all, **QUIET)
    review.keep_all.click(partial(keep_all, ui, review), chosen, review.all, **QUIET)
    review.collect.click(partial(collect, ui, review), [chosen, review.name], [review.said, review.name], **QUIET)


def show(ui: Ui, review: Review, job: Job | None, *, which: str = OPEN, after: int = 0) -> Updates:
    """Draw the draft that follows one, and the first behind the last; hidden as long as there is none at all."""
    if job is None:
        return {review.box: gr.update(visible=False), review.current: "", review.said: None}
    with ui.store.read() as session:
        found = proposals.listing(session, job.id, which, after=after, limit=1)
        found = found or proposals.listing(session, job.id, which, limit=1)
    return {**_counts(ui, review, job, which), **_draft(ui, review, found[0] if found else None, which)}


def look(ui: Ui, review: Review, job: Job | None, which: str, current: str) -> Updates:
    """Draw what has come; what a person is reading stays."""
    if job is None or not current:
        return show(ui, review, job, which=which)
    return _counts(ui, review, job, which)


def _counts(ui: Ui, review: Review, job: Job, which: str) -> Updates:
    with ui.store.read() as session:
        counts = proposals.counts(session, job.id)
    t = ui.t
    choices = [(t(f"make.which.{one}", n=number(getattr(counts, one))), one) for one in SHOWN]
    return {
        review.box: gr.update(visible=counts.drafts > 0),
        review.which: gr.update(choices=choices, value=which),
        review.ending: gr.update(visible=counts.kept > 0),
        review.keep_all: gr.update(visible=which == OPEN and counts.open > 1, value=t("make.keep_all", n=counts.open)),
    }


def _draft(ui: Ui, review: Review, one: Proposal | None, which: str) -> Updates:
    if one is None:
        nothing = tag("p", ui.t(f"make.nothing.{which}"), cls="at-soft")
        return {review.left: nothing, review.reading: gr.update(visible=False), review.current: ""}
    question, answer, score = makeorders.texts_of(one)
    is_judged = score is not None
    return {
        review.left: makeview.source(one, ui.t),
        review.reading: gr.update(visible=True),
        review.question: gr.update(value=question, interactive=not is_judged),
        review.answer: gr.update(value=answer, interactive=not is_judged),
        review.score: gr.update(value=score, visible=is_judged),
        review.leave_out: gr.update(visible=which != LEFT_OUT),
        review.current: str(one.id),
    }


def keep(
    ui: Ui, review: Review, job: str, which: str, current: str, question: str, answer: str, score: float | None
) -> Updates:
    """Keep what is shown, as it stands in the fields, and go on."""
    try:
        with ui.store.write() as session:
            makeorders.keep(session, ids.number(current) or 0, (question, answer, score))
    except (ProblemError, StoreError) as error:
        return {review.said: refusal(error, ui.t)}
    return turn(ui, review, job, which, current)


def leave_out(ui: Ui, review: Review, job: str, which: str, current: str) -> Updates:
    """Leave out what is shown, and go on."""
    with ui.store.write() as session:
        proposals.decide(session, _id_of(ui, job), [ids.number(current) or 0], LEFT_OUT)
    return turn(ui, review, job, which, current)


def turn(ui: Ui, review: Review, job: str, which: str, current: str = "") -> Updates:
    """Show the one that follows, or the first."""
    return {review.said: None, **show(ui, review, job_of(ui, job), which=which, after=ids.number(current) or 0)}


def keep_all(ui: Ui, review: Review, job: str) -> Updates:
    """Keep all that nobody has decided on."""
    with ui.store.write() as session:
        count = proposals.decide(session, _id_of(ui, job), None, KEPT)
    said = note("", ui.t("make.kept_all", n=number(count)), tone="good")
    return {**show(ui, review, job_of(ui, job)), review.said: said}


def collect(ui: Ui, review: Review, job: str, name: str) -> Updates:
    """Queue making a dataset of what was kept."""
    try:
        with ui.store.write() as session:
            makeorders.collect(session, _id_of(ui, job), name.strip())
    except (ProblemError, StoreError) as error:
        return {review.said: refusal(error, ui.t)}
    return {review.said: None, review.name: ""}


def job_of(ui: Ui, chosen: str) -> Job | None:
    """The drafting job that the address names, if it is one."""
    found = ids.number(chosen)
    if found is None:
        return None
    try:
        with ui.store.read() as session:
            return makeorders.latest(session, makeorders.drafting(session, found))
    except StoreError:
        return None


def _id_of(ui: Ui, chosen: str) -> int:
    """Its id, which need not be the one in the address: another job may go on with what that one drafted."""
    job = job_of(ui, chosen)
    return job.id if job else 0


def made(ui: Ui, job: Job | None) -> Html | None:
    """The last dataset that is or was made of a job's drafts."""
    if job is None:
        return None
    with ui.store.read() as session:
        last = makeorders.last_collected(session, job.id)
    return makeview.made(ui, last) if last is not None else None
