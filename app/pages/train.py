"""Train: what is trained, on what, how; and the run card that says what it will come to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr
from sqlalchemy.orm import Session

from app import draft, filling, form, ids, recipe, runcard, submission, trainform, trials
from app.filling import METHODS, Filled
from app.form import named
from app.frame import QUIET, on_load, orders
from app.panel import Panel
from app.render import Html, button_link, code, heading, note, problems, tag
from app.runcard import Card
from app.trainform import Scene, TrainForm, Updates
from app.ui import Ui
from engine.specs.problem import ProblemError
from storage import jobs
from storage.errors import NotFound
from storage.jobs import SubmitOptions

QUEUED: dict[str, Any] = {**QUIET, "queue": True}
IN_TURN: dict[str, Any] = {**QUEUED, "concurrency_id": "train-form", "concurrency_limit": 1}
"""What changes the form or takes it as it stands happens in the order in which it was asked: Start after a change."""
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
    order = orders()
    Panel(heading(t("page.train"), t("train.lead")))
    with gr.Row(elem_classes=["at-split", "at-train"]):
        with gr.Column(elem_id="train-form", elem_classes=["at-detail"]):
            made = trainform.build(t)
            reset = gr.Button(t("train.reset"), size="sm", elem_classes=["at-quiet"])
        with gr.Column(elem_classes=["at-aside-column", "at-sticky"]):
            parts = _aside(ui, reset)
            made.panels["differences"] = Panel(elem_id="train-differences")
    _wire(ui, made, parts, order)


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


def _wire(ui: Ui, made: TrainForm, parts: Parts, order: gr.Textbox) -> None:
    def opened(request: gr.Request) -> Updates:
        found = open_form(ui, made, dict(request.query_params))
        with ui.store.read() as session:
            return {**found, parts.changed: _stamp(filling.current(session))}

    on_load(opened, outputs=[*made.components, parts.changed])
    told = [*made.components, parts.changed, parts.said, parts.yaml]
    last = {"trigger_mode": "always_last"}
    for path, component in made.fields.items():
        component.input(partial(change, ui, made, parts, path), [component], told, **last, **IN_TURN)  # type: ignore[attr-defined]
    order.change(partial(obey, ui, made, parts), [order], told, **IN_TURN)
    parts.reset.click(partial(go_back, ui, made, parts), None, told, **IN_TURN)
    shown = [parts.card, parts.start, parts.measure, parts.recipe, parts.said, parts.pending, parts.timer]
    gr.on([parts.changed.change], partial(show, ui, parts), None, shown, **last, **QUEUED)
    parts.timer.tick(partial(show, ui, parts), [parts.pending], shown, **QUEUED)
    parts.measure.click(partial(measure, ui), None, [parts.said], **IN_TURN).then(
        partial(show, ui, parts), None, shown, **QUEUED
    )
    parts.recipe.click(partial(show_yaml, ui), None, [parts.yaml], **QUEUED)
    parts.start.click(partial(start, ui), None, [parts.said], **IN_TURN)


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
    return trainform.updates(made, ui.t, Scene(filled, world), made.built)


def _follow(session: Session, query: Mapping[str, str]) -> None:
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
    kept = {path: form.read(path, value)}
    found = _changed(ui, made, parts, lambda session: draft.choose(session, kept))
    if made.fields[path] in found:
        found[made.fields[path]].pop("value", None)  # a person is typing there
    return found


def obey(ui: Ui, made: TrainForm, parts: Parts, order: str) -> Updates:
    """Carry out what a button of the page orders: `verb:what`, and for a choice its value."""
    verb, what, value, *_ = [*order.split(":"), ""]
    return _changed(ui, made, parts, lambda session: ORDERS[verb](session, what, value))


def _choose(session: Session, path: str, value: str) -> None:
    draft.choose(session, {path: value})


def _put_back(session: Session, path: str, _value: str) -> None:
    draft.choose(session, {path: None})


def _method(session: Session, name: str, _value: str) -> None:
    """Set the parts of a method: which weights move, and in which form the base lies in memory."""
    draft.choose(session, METHODS[name])


def _preset(session: Session, name: str, _value: str) -> None:
    draft.take(session, name, {path: one.value for path, one in filling.preset_values(name).items()})


def _undo(session: Session, _what: str, _value: str) -> None:
    draft.leave(session)


ORDERS: dict[str, Callable[[Session, str, str], None]] = {
    "choose": _choose,
    "back": _put_back,
    "method": _method,
    "preset": _preset,
    "undo": _undo,
}


def go_back(ui: Ui, made: TrainForm, parts: Parts) -> Updates:
    """Give the settings back to their defaults, whatever a field shows that was never told of."""
    return _changed(ui, made, parts, draft.reset, whole=True)


def _changed(ui: Ui, made: TrainForm, parts: Parts, act: Callable[[Session], None], *, whole: bool = False) -> Updates:
    with ui.store.write() as session:
        world = filling.look_around(session)
        before = None if whole else Scene(filling.filled(session, world), world)
        act(session)
        after = Scene(filling.filled(session, world), world)
    found = trainform.updates(made, ui.t, after, before)
    return {**found, parts.changed: _stamp(after.filled), parts.said: Html(""), parts.yaml: Html("")}


def _stamp(filled: Filled) -> str:
    """Return something that differs whenever the form or what it stands on does."""
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


def _filled(session: Session) -> Filled:
    return filling.current(session)
