"""The part of the Models page that merges: a form that asks only what the chosen way of merging needs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, get_args

import gradio as gr
from gradio.components import Component
from pydantic.fields import FieldInfo
from sqlalchemy.orm import Session

from app import frame, ids, merges, mergeview, removal, talk
from app.language import Text
from app.panel import Panel
from app.refusal import refusal
from app.render import Html, button_link, note, tag
from app.ui import Ui
from engine.merging import MERGES
from engine.specs.merge import MergeSpec
from engine.specs.problem import Problem, ProblemError, Where
from storage import datasets, jobs, models
from storage.errors import StoreError
from storage.targets import BASE

TICK_S = 2.0
OWN = "kind"
Updates = dict[Any, Any]


@dataclass(frozen=True, slots=True)
class Parts:
    """The components of the form; `own` are the settings of all ways of merging by name."""

    targets: gr.Dropdown
    method: gr.Radio
    weights: gr.Textbox
    own: dict[str, Component]
    form: gr.Radio
    base: gr.Dropdown
    data: gr.Dropdown
    name: gr.Textbox
    start: gr.Button
    said: Panel
    listed: Panel
    order: gr.Textbox
    seen: gr.State

    @property
    def given(self) -> list[Any]:
        """What a person fills in, in the order in which `start` takes it."""
        fixed = [self.targets, self.method, self.weights, self.form, self.base, self.data, self.name]
        return [*fixed, *self.own.values()]


def build(ui: Ui) -> Parts:
    """Lay the form out and connect it."""
    parts = lay_out(ui)
    show = partial(refresh, ui, parts)
    calm: dict[str, Any] = {**frame.QUIET, "queue": True}

    def opened(request: gr.Request) -> Updates:
        return open_form(ui, parts, request.query_params.get("merge"))

    frame.on_load(opened, outputs=[parts.targets, parts.base, parts.data, parts.listed, parts.seen])
    frame.every(TICK_S, show, inputs=[parts.seen], outputs=[parts.listed, parts.seen])
    parts.method.input(partial(choose, ui, parts), [parts.method], [parts.method, *parts.own.values()], **frame.QUIET)
    parts.targets.focus(partial(offer, ui, parts), [parts.targets], [parts.targets], **frame.QUIET)
    told = [parts.said, parts.listed, parts.seen]
    parts.start.click(partial(start, ui, parts), [parts.seen, *parts.given], told, **calm)
    parts.order.change(partial(obey, ui, parts), [parts.order, parts.seen], told, **calm)
    return parts


def lay_out(ui: Ui) -> Parts:
    """Make the components and put them in their places."""
    t, first = ui.t, next(iter(MERGES))
    order, seen = frame.orders(), gr.State("")
    with gr.Accordion(t("merge.title"), open=False, elem_id="merge-form"):
        Panel(tag("p", t("merge.lead"), cls="at-soft"))
        with gr.Group(elem_classes=["at-fields"]):
            targets = gr.Dropdown(
                [], multiselect=True, max_choices=20, label=t("merge.targets"), info=t("merge.targets_help"),
                elem_id="merge-targets",
            )  # fmt: skip
            kinds = [(t(f"merge.method.{kind}"), kind) for kind in MERGES]
            method = gr.Radio(
                kinds, value=first, label=t("merge.method"), info=t(f"merge.method.{first}.when"),
                elem_id="merge-method",
            )  # fmt: skip
            weights = gr.Textbox(
                label=t("merge.weights"), info=t("merge.weights_help"), max_lines=1, elem_id="merge-weights"
            )
            own = {name: _component(name, info, t, _has(first, name)) for name, info in _settings().items()}
        with gr.Accordion(t("merge.more"), open=False), gr.Group(elem_classes=["at-fields"]):
            form, base, data = _more(t)
        name = gr.Textbox(label=t("merge.name"), value="merge", max_lines=1, max_length=120, elem_id="merge-name")
        button = gr.Button(t("merge.start"), variant="primary", elem_id="merge-start")
    said, listed = Panel(elem_id="merge-said"), Panel(elem_id="merges")
    return Parts(targets, method, weights, own, form, base, data, name, button, said, listed, order, seen)


def _more(t: Text) -> tuple[gr.Radio, gr.Dropdown, gr.Dropdown]:
    forms = [(t(f"merge.form.{one}"), one) for one in ("auto", "adapter", "weights")]
    known = MergeSpec.model_fields
    form = gr.Radio(forms, value="auto", elem_id="merge-as", **_words("form", known["form"], t))
    base = gr.Dropdown([], elem_id="merge-base", **_words("base", known["base"], t))
    data = gr.Dropdown([], label=t("merge.data"), info=t("merge.data_help"), elem_id="merge-data")
    return form, base, data


def _settings() -> dict[str, FieldInfo]:
    """The settings of all ways of merging by name; what two have in common is asked once."""
    fields = [item for one in MERGES.values() for item in one.Spec.model_fields.items()]
    return {name: info for name, info in reversed(fields) if name != OWN}


def _has(kind: str, name: str) -> bool:
    return name in MERGES[kind].Spec.model_fields


def _component(name: str, info: FieldInfo, t: Text, visible: bool) -> Component:
    shown: dict[str, Any] = {
        **_words(name, info, t),
        "visible": visible,
        "value": info.default,
        "elem_id": f"merge-own-{name}",
    }
    choices = get_args(info.annotation)
    if choices:
        return gr.Radio([(t(f"merge.method.{one}"), one) for one in choices], **shown)
    return gr.Number(**shown)


def _words(name: str, info: FieldInfo, t: Text) -> dict[str, Any]:
    return {
        "label": t.get(f"field.merge.{name}.label", str(info.title)),
        "info": t.get(f"field.merge.{name}.help", str(info.description)),
    }


def open_form(ui: Ui, parts: Parts, asked: str | None) -> Updates:
    """Offer what there is to merge, and show the merges; the address may name one."""
    t = ui.t
    with ui.store.read() as session:
        nothing = [(t("merge.by_itself"), "")]
        bases = [*nothing, *((one.name, f"{BASE}{one.name}") for one in models.listing(session))]
        rows = [*nothing, *((one.name, one.name) for one in datasets.listing(session))]
        listed = mergeview.listing(ui, session, ids.number(asked))
        return {
            parts.targets: gr.update(choices=_targets(ui, session)),
            parts.base: gr.update(choices=bases, value=""),
            parts.data: gr.update(choices=rows, value=""),
            parts.listed: listed,
            parts.seen: _digest(listed),
        }


def _targets(ui: Ui, session: Session) -> list[tuple[str, str]]:
    """Checkpoints and bases; a quantised base is none of its own here."""
    return [one for one in talk.choices(session, ui.t) if talk.FORM not in one[1]]


def offer(ui: Ui, parts: Parts, chosen: list[str] | None) -> Updates:
    """Offer also what has come to be since the page was opened."""
    with ui.store.read() as session:
        return {parts.targets: gr.update(choices=_targets(ui, session), value=chosen or [])}


def choose(ui: Ui, parts: Parts, kind: str) -> Updates:
    """Ask what this way of merging needs, and say when it is the right one."""
    fields = MERGES[kind].Spec.model_fields
    updates: Updates = {parts.method: gr.update(info=ui.t(f"merge.method.{kind}.when"))}
    for name, component in parts.own.items():
        known = fields.get(name)
        shown = (
            {"visible": False}
            if known is None
            else {"visible": True, "value": known.default, **_words(name, known, ui.t)}
        )
        updates[component] = gr.update(**shown)
    return updates


def start(ui: Ui, parts: Parts, seen: str, *given: Any) -> Updates:
    """Queue the merge; a second click on the same finds it under way."""
    try:
        wanted = wanted_of(parts, given)
        with ui.store.write() as session:
            job = merges.submit(session, wanted)
    except ProblemError as error:
        return {parts.said: refusal(ProblemError([_named(parts, one) for one in error.problems]), ui.t)}
    except StoreError as error:
        return {parts.said: refusal(error, ui.t)}
    action = button_link(ui.t("page.queue"), "/queue", small=True)
    said = note(ui.t("merge.started", id=job.id), job.name, tone="good", action=action)
    return {parts.said: said, **_listed(ui, parts, seen)}


def _named(parts: Parts, found: Problem) -> Problem:
    """Return a problem whose field is called as on the form."""
    fields: dict[str, Any] = {"sources": parts.targets, "weights": parts.weights, "form": parts.form}
    fields |= {"base": parts.base, "data": parts.data, "name": parts.name, **parts.own}
    section, _, rest = (found.where.field or "").partition(".")
    field = fields.get(section) or fields.get(rest)
    return found if field is None else replace(found, where=Where(field.label, found.where.line))


def wanted_of(parts: Parts, given: tuple[Any, ...]) -> Mapping[str, Any]:
    """Return the form as untrusted data.

    Raises:
        ProblemError: the weights are no numbers, or not as many as sources.
    """
    targets, kind, weights, form, base, data, name, *own = given
    settings = dict(zip(parts.own, own, strict=True))
    method = {key: _number(value) for key, value in settings.items() if _has(kind, key) and value is not None}
    return {
        "sources": merges.weighted(targets or [], weights or None),
        "method": {"kind": kind, **method},
        "form": form,
        "base": base or None,
        "data": data or None,
        "name": (name or "").strip() or "merge",
    }


def _number(value: Any) -> Any:
    """A browser's number field makes 64 to 64.0."""
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) >= 1 else value


def obey(ui: Ui, parts: Parts, order: str, seen: str) -> Updates:
    """Carry out the order of a merge's button."""
    verb, asked, *_ = [*order.split(":"), ""]
    number, said = ids.number(asked), Html("")
    if verb not in ORDERS or number is None:
        return {parts.said: said}
    try:
        ORDERS[verb](ui, number)
    except StoreError as error:
        said = refusal(error, ui.t)
    return {parts.said: said, **_listed(ui, parts, seen)}


def _cancel(ui: Ui, job_id: int) -> None:
    with ui.store.write() as session:
        jobs.cancel(session, job_id)


def _retry(ui: Ui, job_id: int) -> None:
    with ui.store.write() as session:
        jobs.retry(session, job_id)


def _delete(ui: Ui, job_id: int) -> None:
    removal.delete_job(ui.store, ui.home, job_id)


ORDERS: dict[str, Callable[[Ui, int], None]] = {
    "merge_cancel": _cancel,
    "merge_retry": _retry,
    "merge_delete": _delete,
}


def refresh(ui: Ui, parts: Parts, seen: str) -> Any:
    """Show the merges anew where something has changed."""
    return _listed(ui, parts, seen) or gr.skip()


def _listed(ui: Ui, parts: Parts, seen: str) -> Updates:
    with ui.store.read() as session:
        listed = mergeview.listing(ui, session, None)
    return {} if _digest(listed) == seen else {parts.listed: listed, parts.seen: _digest(listed)}


def _digest(value: Html) -> str:
    return hashlib.sha1(value.encode(), usedforsecurity=False).hexdigest()
