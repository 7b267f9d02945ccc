"""Train: what is trained, on what, how; and the run card that says what it will come to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from app import draft, filling, form, ids, recipe, runcard, submission, trainform, trials
from app.filling import METHODS, Filled
from app.form import named
from app.frame import QUIET, on_load
from app.panel import Panel
from app.render import Html, button_link, code, heading, note, problems, tag
from app.runcard import Card
from app.trainform import TrainForm, Updates
from app.ui import Ui
from engine.specs.problem import ProblemError
from storage import jobs
from storage.errors import NotFound
from storage.jobs import SubmitOptions

QUEUED: dict[str, Any] = {**QUIET, "queue": True}
FIRST_LOOK_S = 0.1
"""After the page was opened: the form does not wait for the numbers."""
LOOK_AGAIN_S = 0.5
QUERY = {
    "dataset": "data.dataset",
    "model": "model.id",
    "start_from": "model.start_from",
    "objective": "objective.kind",
}
"""What a link to this page may choose."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The components of the page that are not fields."""

    card: Panel
    start: gr.Button
    measure: gr.Button
    recipe: gr.Button
    reset: gr.Button
    said: Panel
    yaml: Panel
    pending: gr.State
    """The open question for the numbers."""
    changed: gr.State
    """Changes with each change of the form."""
    timer: gr.Timer


def build(ui: Ui) -> None:
    """Lay the page out."""
    t = ui.t
    Panel(heading(t("page.train"), t("train.lead")))
    with gr.Row(elem_classes=["at-split", "at-train"]):
        with gr.Column(elem_classes=["at-detail"]):
            made = trainform.build(t)
            reset = gr.Button(t("train.reset"), size="sm", elem_classes=["at-quiet"])
        with gr.Column(elem_classes=["at-aside-column", "at-sticky"]):
            parts = _aside(ui, reset)
    _wire(ui, made, parts)


def _aside(ui: Ui, reset: gr.Button) -> Parts:
    t = ui.t
    card = Panel(elem_id="run-card")
    start = gr.Button(t("train.start"), variant="primary", elem_id="start-training", interactive=False)
    with gr.Row(elem_classes=["at-buttons"]):
        measure = gr.Button(t("train.measure"), elem_id="measure", interactive=False)
        shown = gr.Button(t("train.yaml"), elem_id="show-yaml", interactive=False)
    said, yaml = Panel(elem_id="train-said"), Panel(elem_id="train-yaml")
    timer = gr.Timer(FIRST_LOOK_S)
    return Parts(card, start, measure, shown, reset, said, yaml, gr.State(), gr.State(), timer)


def _wire(ui: Ui, made: TrainForm, parts: Parts) -> None:
    def opened(request: gr.Request) -> Updates:
        return {**open_form(ui, made, dict(request.query_params)), parts.changed: _stamp(ui)}

    on_load(opened, outputs=[*made.components, parts.changed])
    told = [*made.components, parts.changed, parts.said, parts.yaml]
    last = {"trigger_mode": "always_last", **QUEUED}
    for path, component in made.fields.items():
        component.input(partial(change, ui, made, parts, path), [component], told, **last)  # type: ignore[attr-defined]
    made.method.input(partial(change_method, ui, made, parts), [made.method], told, **last)
    parts.reset.click(partial(go_back, ui, made, parts), None, told, **QUEUED)
    shown = [parts.card, parts.start, parts.measure, parts.recipe, parts.said, parts.pending, parts.timer]
    gr.on([parts.changed.change], partial(show, ui, parts), None, shown, **last)
    parts.timer.tick(partial(show, ui, parts), [parts.pending], shown, **QUEUED)
    parts.measure.click(partial(measure, ui), None, [parts.said], **QUEUED).then(
        partial(show, ui, parts), None, shown, **QUEUED
    )
    parts.recipe.click(partial(show_yaml, ui), None, [parts.yaml], **QUEUED)
    parts.start.click(partial(start, ui), None, [parts.said], **QUEUED)


def open_form(ui: Ui, made: TrainForm, query: Mapping[str, str]) -> Updates:
    """Return the form as it was left, with what the address asks for."""
    with ui.store.write() as session:
        draft.renew(session)
        if draft.is_new_link(session, {key: query[key] for key in ("from", *QUERY) if key in query}):
            _follow(session, query)
        world = filling.look_around(session)
        filled = filling.filled(session, world)
        if "data.dataset" not in filled.chosen:  # what is shown is what starts, whatever is imported meanwhile
            draft.choose(session, {"data.dataset": filled.values["data.dataset"]})
    return trainform.updates(made, filled, world=world, t=ui.t)


def _follow(session: Any, query: Mapping[str, str]) -> None:
    """Take over a run to be cloned, then what the link chooses by itself."""
    source = ids.number(query.get("from"))
    if source is not None:
        try:
            draft.fill_from(session, jobs.get(session, source).spec)
        except NotFound:
            return
    for key, path in QUERY.items():
        if query.get(key):
            draft.choose(session, {path: query[key]})


def change(ui: Ui, made: TrainForm, parts: Parts, path: str, value: Any) -> Updates:
    """Keep what a person set in one field, and show what follows from it."""
    found = _changed(ui, made, parts, {path: form.read(path, value)})
    if made.fields[path] in found:
        found[made.fields[path]].pop("value", None)  # a person is typing there
    return found


def change_method(ui: Ui, made: TrainForm, parts: Parts, name: str | None) -> Updates:
    """Set the parts of a method: which weights move, and in which form the base lies in memory."""
    return _changed(ui, made, parts, METHODS.get(str(name), {}))


def go_back(ui: Ui, made: TrainForm, parts: Parts) -> Updates:
    """Give the settings back to their defaults."""
    return _changed(ui, made, parts, None)


def _changed(ui: Ui, made: TrainForm, parts: Parts, changes: Mapping[str, Any] | None) -> Updates:
    with ui.store.write() as session:
        world = filling.look_around(session)
        before = filling.filled(session, world)
        if changes is None:
            draft.reset(session)
        else:
            draft.choose(session, changes)
        after = filling.filled(session, world)
    found = trainform.updates(made, after, world=world, t=ui.t, before=None if changes is None else before)
    return {**found, parts.changed: _stamp(ui), parts.said: Html(""), parts.yaml: Html("")}


def _stamp(ui: Ui) -> str:
    """Return something that differs whenever the form or what it stands on does."""
    with ui.store.read() as session:
        filled = filling.current(session)
    return repr(sorted(filled.values.items(), key=str)) + str(len(filled.chosen))


def show(ui: Ui, parts: Parts, pending: int | None = None) -> Updates:
    """Show the run card; while numbers or a measurement are on their way, the timer looks again."""
    about = runcard.assess(ui, pending)
    failed = runcard.trial_problem(about, ui)
    return {
        parts.card: runcard.html(about, ui.t),
        parts.start: gr.update(interactive=about.is_ready),
        parts.measure: gr.update(interactive=_can_measure(about)),
        parts.recipe: gr.update(interactive=about.spec is not None),
        parts.said: failed or gr.skip(),
        parts.pending: about.request_id,
        parts.timer: gr.update(active=about.is_moving or not about.worker, value=LOOK_AGAIN_S if about.worker else 3.0),
    }


def _can_measure(about: Card) -> bool:
    return about.is_ready and about.worker and (about.trial is None or about.trial.state not in trials.OPEN)


def measure(ui: Ui) -> Html:
    """Queue two measured steps of this run."""
    try:
        with ui.store.write() as session:
            trials.measure(session, submission.prepare(session, _filled(session).data))
    except ProblemError as error:
        return _refused(ui, error)
    return Html("")


def show_yaml(ui: Ui) -> Html:
    """Show the run as YAML, with a button that copies it."""
    try:
        with ui.store.read() as session:
            spec = submission.prepare(session, _filled(session).data)
    except ProblemError as error:
        return _refused(ui, error)
    copy = tag("button", ui.t("train.copy"), type="button", cls="at-button at-small", data_copy="#run-yaml code")
    hint = tag("span", ui.t("train.yaml_hint"), cls="at-soft at-small")
    text = recipe.as_yaml(spec.model_dump(mode="json"))
    return tag("div", tag("div", hint, copy, cls="at-code-head"), tag("div", code(text), id="run-yaml"))


def start(ui: Ui) -> Html:
    """Queue the run, once however often it is clicked, and cancel the trials: the run needs their place."""
    try:
        with ui.store.write() as session:
            spec = submission.prepare(session, _filled(session).data)
            trials.cancel_all(session)
            job = submission.submit(session, spec, SubmitOptions(f"form-{draft.nonce(session)}"))
            draft.used(session)
    except ProblemError as error:
        return _refused(ui, error)
    link = button_link(ui.t("train.open_run"), f"/runs?run={job.id}", small=True)
    return note(ui.t("train.started", id=job.id), job.name, tone="good", action=link)


def _refused(ui: Ui, error: ProblemError) -> Html:
    return note(ui.t("train.refused"), problems((named(one, ui.t) for one in error.problems), ui.t), tone="bad")


def _filled(session: Any) -> Filled:
    return filling.current(session)
