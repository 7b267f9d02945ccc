"""The Mix view of a dataset: others are put to it by weight, and what the mixture will hold is shown before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr
from sqlalchemy.orm import Session

from app import dataorders, derivations
from app.form import named
from app.frame import QUIET
from app.language import Text
from app.measure import number
from app.panel import Panel
from app.refusal import refusal
from app.render import Html, card, empty, join, problems, table, tag
from app.ui import Ui
from engine.specs.base import validate
from engine.specs.mixture import planned
from engine.specs.operations import Mix
from engine.specs.problem import ProblemError, problem
from storage import datasets
from storage.datasets import Version
from storage.errors import StoreError

MOST_OTHERS = 7
GENERAL_SHARE = 0.2
LONGEST_NAME = 200
Updates = dict[Any, Any]
Settings = tuple[list[int] | None, float | None, float | None, list[float | None]]
"""The ids of the others, temperature, rows, and the weights, the shown one's first."""


@dataclass(frozen=True, slots=True, eq=False)
class Mixing:
    """Its components."""

    box: gr.Column
    others: gr.Dropdown
    propose: gr.Button
    weights: Sequence[gr.Number]
    temperature: gr.Number
    rows: gr.Number
    told: Panel
    name: gr.Textbox
    mix: gr.Button
    said: Panel

    @property
    def all(self) -> list[Any]:
        return [self.box, self.others, *self.weights, self.temperature, self.rows, self.told, self.name, self.said]

    @property
    def settings(self) -> list[Any]:
        """What tells the mixture, in the order of `settings_of`."""
        return [self.others, self.temperature, self.rows, *self.weights]


def build(t: Text) -> Mixing:
    """Lay the components out, hidden."""
    with gr.Column(visible=False, elem_id="mixing") as box:
        with gr.Row(elem_classes=["at-tools"]):
            others = gr.Dropdown(
                [], multiselect=True, max_choices=MOST_OTHERS, label=t("mix.others"), elem_id="mix-others", scale=3
            )
            propose = gr.Button(t("mix.propose", n=_percent(GENERAL_SHARE)), size="md", elem_id="mix-propose")
        with gr.Row(elem_classes=["at-tools"]):
            weights = [gr.Number(visible=False, min_width=150) for _ in range(MOST_OTHERS + 1)]
        with gr.Row(elem_classes=["at-tools"]):
            rows = gr.Number(None, precision=0, label=t("mix.rows"), info=t("mix.rows_help"), elem_id="mix-rows")
            temperature = gr.Number(
                1.0, label=t("mix.temperature"), info=t("mix.temperature_help"), elem_id="mix-temperature"
            )
        told = Panel(elem_id="mix-told")
        with gr.Row(elem_classes=["at-tools"]):
            name = gr.Textbox(label=t("mix.name"), max_lines=1, elem_id="mix-name", scale=3)
            mix = gr.Button(t("mix.make"), size="md", elem_id="mix-make")
        said = Panel(elem_id="mix-said")
    return Mixing(box, others, propose, weights, temperature, rows, told, name, mix, said)


def wire(ui: Ui, parts: Mixing, drawn: gr.State) -> None:
    """Show what the mixture will hold whenever something of it changes."""
    quiet: Any = {**QUIET, "queue": True, "trigger_mode": "always_last"}
    given = [drawn, *parts.settings]
    parts.others.input(partial(choose, ui, parts), [drawn, parts.others], parts.all, **quiet)
    parts.propose.click(partial(propose, ui, parts), given, parts.all, **quiet)
    typed = [one.input for one in (parts.temperature, parts.rows, *parts.weights)]
    gr.on(typed, partial(reckon, ui), given, parts.told, **quiet)


def others_of(session: Session, version: Version) -> tuple[list[Version], int]:
    """The latest versions of other datasets of the same kind of rows, and how many hold another kind."""
    found = [one for one in datasets.listing(session) if one.dataset_id != version.dataset_id]
    fitting = [one for one in found if one.row_kind == version.row_kind]
    return fitting, len(found) - len(fitting)


def show(ui: Ui, parts: Mixing, version: Version | None, view: str) -> Updates:
    """Draw the components for a version: nothing is chosen yet."""
    hidden: Updates = {one: gr.skip() for one in parts.all}
    if version is None or view != "mix":
        return {**hidden, parts.box: gr.update(visible=False)}
    with ui.store.read() as session:
        fitting, _ = others_of(session, version)
    choices = [(_called(one, ui.t), one.id) for one in fitting]
    return {
        **hidden,
        parts.box: gr.update(visible=bool(fitting)),
        parts.others: gr.update(choices=choices, value=[]),
        **dict.fromkeys(parts.weights, gr.update(visible=False, value=None)),
        parts.temperature: 1.0,
        parts.rows: None,
        parts.told: Html(""),
        parts.name: "",
        parts.said: Html(""),
    }


def body(ui: Ui, version: Version) -> tuple[Html, int | None]:
    """Return why one mixes, and what cannot be mixed with this dataset."""
    t = ui.t
    with ui.store.read() as session:
        fitting, num_unlike = others_of(session, version)
    kind = t(f"row_kind.{version.row_kind}")
    unlike = tag("p", t("mix.unlike", n=number(num_unlike), kind=kind), cls="at-soft at-small") if num_unlike else ""
    if not fitting:
        return join([empty(t("mix.none_title"), t("mix.none", kind=kind)), unlike]), None
    why = tag("p", t("mix.forgetting"))
    source = tag("p", t("mix.source"), cls="at-soft at-small")
    return card(why, source, unlike, title=t("mix.title")), None


def choose(ui: Ui, parts: Mixing, drawn: Sequence[Any] | None, others: list[int] | None) -> Updates:
    """Give each source the weight by which all its rows come once."""
    try:
        sources = _sources(ui, _shown(drawn), others)
    except StoreError as error:
        return {parts.told: refusal(error, ui.t)}
    return _weighed(ui, parts, sources, [float(dataorders.training_rows(one)) for one in sources], None)


def propose(ui: Ui, parts: Mixing, drawn: Sequence[Any] | None, *settings: Any) -> Updates:
    """Give the others together a share of 20 %, and the shown dataset's rows once each."""
    try:
        sources = _chosen(ui, _shown(drawn), settings_of(settings))
    except (ProblemError, StoreError) as error:
        return {parts.told: refusal(error, ui.t)}
    own, *sizes = map(dataorders.training_rows, sources)
    general = [100 * GENERAL_SHARE * size / (sum(sizes) or 1) for size in sizes]
    weights = [100 * (1 - GENERAL_SHARE), *(round(one, 2) for one in general)]
    return _weighed(ui, parts, sources, weights, round(own / (1 - GENERAL_SHARE)) or None)


def _weighed(ui: Ui, parts: Mixing, sources: Sequence[Version], weights: Sequence[float], rows: int | None) -> Updates:
    shown = zip(sources, weights, strict=True) if len(sources) > 1 else ()
    updates: Updates = dict.fromkeys(parts.weights, gr.update(visible=False, value=None))
    for place, (component, (one, weight)) in enumerate(zip(parts.weights, shown, strict=False), 1):
        label = ui.t("mix.weight", place=place, name=one.name)
        updates[component] = gr.update(visible=True, value=weight, label=label)
    others = [one.id for one in sources[1:]]
    told = _told(ui, sources, (others, 1.0, rows, list(weights)))
    return {**updates, parts.temperature: 1.0, parts.rows: rows, parts.told: told, parts.name: _name(sources)}


def _name(sources: Sequence[Version]) -> str:
    return " + ".join(one.name for one in sources)[:LONGEST_NAME] if len(sources) > 1 else ""


def reckon(ui: Ui, drawn: Sequence[Any] | None, *settings: Any) -> Html:
    """Return what the mixture will hold."""
    told = settings_of(settings)
    try:
        return _told(ui, _sources(ui, _shown(drawn), told[0]), told)
    except StoreError as error:
        return refusal(error, ui.t)


def settings_of(values: Sequence[Any]) -> Settings:
    """Read the components' values."""
    others, temperature, rows, *weights = values
    return others, temperature, rows, weights


def _shown(drawn: Sequence[Any] | None) -> int | None:
    """The id of the version that is shown."""
    return drawn[1] if drawn else None


def _sources(ui: Ui, shown: int | None, others: Sequence[int] | None) -> list[Version]:
    """The version that is shown, and the others; nothing where none is shown."""
    wanted = () if shown is None else (shown, *(others or ()))
    with ui.store.read() as session:
        return [datasets.by_id(session, one) for one in wanted]


def _chosen(ui: Ui, shown: int | None, settings: Settings) -> list[Version]:
    found = _sources(ui, shown, settings[0])
    if len(found) < 2:
        raise ProblemError([problem("mix_nothing_chosen")])
    return found


def operation_of(sources: Sequence[Version], settings: Settings) -> dict[str, Any]:
    """The operation as its spec takes it. A weight that was left empty is 0."""
    _, temperature, rows, weights = settings
    known = [weight or 0 for weight in weights[: len(sources)]]
    told = {"kind": "mix", "weights": known, "temperature": 1.0 if temperature is None else temperature}
    return told if rows is None else {**told, "rows": round(rows)}


def _counts(sources: Sequence[Version], settings: Settings) -> list[int]:
    """Training rows that each source will give, as the job will reckon them."""
    first = sources[0].row_kind
    other = next((one.row_kind for one in sources if one.row_kind != first), None)
    if other is not None:
        raise ProblemError([problem("data_kinds_differ", field="sources", first=first, other=other)])
    mix = validate(Mix, operation_of(sources, settings), at="operation")
    return planned(mix, [dataorders.training_rows(one) for one in sources])


def _told(ui: Ui, sources: Sequence[Version], settings: Settings) -> Html:
    if len(sources) < 2:
        return Html("")
    t, sizes = ui.t, [dataorders.training_rows(one) for one in sources]
    try:
        counts = _counts(sources, settings)
    except ProblemError as error:
        return card(problems((named(one, t) for one in error.problems), t), tone="bad")
    total = sum(counts)
    lines = [
        _line(
            f"{place} · {one.name}",
            number(size),
            number(count),
            _percent(count / total),
            t("mix.times", n=number(count / size, 2)) if size else "",
            number(one.usable_rows - size),
        )
        for place, (one, size, count) in enumerate(zip(sources, sizes, counts, strict=True), 1)
    ]
    held_out = sum(one.usable_rows - size for one, size in zip(sources, sizes, strict=True))
    whole = tag("strong", t("mix.total"))
    lines.append(_line(whole, number(sum(sizes)), number(total), _percent(1), "", number(held_out)))
    keys = ("source_column", "training", "taken", "share", "often", "held_out")
    return card(table([t(f"mix.{key}") for key in keys], lines), title=t("mix.holds"))


def _line(name: object, *numbers: str) -> list[Html]:
    return [tag("span", name, cls="at-name"), *(tag("span", one, cls="at-whole") for one in numbers)]


def _percent(share: float) -> str:
    return f"{number(100 * share, 2)} %"


def _called(one: Version, t: Text) -> str:
    return t("mix.choice", name=one.name, version=one.version, rows=number(dataorders.training_rows(one)))


def make(ui: Ui, version_id: int, name: str | None, *settings: Any) -> Html:
    """Queue the mixture, and say so.

    Raises:
        ProblemError: nothing else was chosen, or the mixture cannot be made.
        NotFound: a source is gone.
    """
    told = settings_of(settings)
    sources = _chosen(ui, version_id, told)
    operation = operation_of(sources, told)
    _counts(sources, told)
    called = (name or "").strip() or _name(sources)
    with ui.store.write() as session:
        derivations.derive(session, called, sources, operation)
    return derivations.queued(called, ui.t)
