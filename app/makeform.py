"""The form for drafting rows: the settings of the chosen recipe and of who answers, from their specs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import gradio as gr
from gradio.components import Component

from app import endpointkey, talk
from app.form import Setting, component, settings_of
from app.frame import QUIET
from app.language import Text
from app.panel import Panel
from app.refusal import Refusal
from app.render import Html
from app.ui import Ui
from engine.specs.base import EntrySpec
from engine.specs.drafting import DraftSpec
from engine.specs.generators import GENERATORS
from engine.specs.problem import ProblemError, Where
from engine.specs.recipes import DRAFTED_FROM, RECIPES
from storage import datasets, drafts

HINTS: dict[str, Callable[[Ui], Html]] = {"endpoint": endpointkey.hosts}
LONG = ("prompt", "system")
"""Texts of several lines."""
PAGE = "make"
USUAL_RECIPE, USUAL_GENERATOR = "questions", "local"
DATASET, RECIPE, GENERATOR, TARGET = "dataset", "recipe", "generator", "generator.local.target"
Values = dict[str, Any]
Updates = dict[Any, Any]
Fields = dict[str, Component]
"""Component by setting: `recipe.questions.count`, `generator.local.target`, `requests`."""


@dataclass(frozen=True, slots=True)
class MakeForm:
    """Its components."""

    dataset: gr.Dropdown
    recipe: gr.Radio
    recipes: Mapping[str, gr.Column]
    generator: gr.Radio
    generators: Mapping[str, gr.Column]
    fields: Fields
    start: gr.Button

    @property
    def inputs(self) -> list[Component]:
        return [self.dataset, self.recipe, self.generator, *self.fields.values()]

    @property
    def groups(self) -> list[gr.Column]:
        return [*self.recipes.values(), *self.generators.values()]

    @property
    def all(self) -> list[Any]:
        return [*self.inputs, *self.groups]


def build(ui: Ui) -> MakeForm:
    """Lay the form out."""
    t = ui.t
    fields: Fields = {}
    dataset = gr.Dropdown([], label=t("make.dataset"), info=t("make.dataset.help"), elem_id="make-dataset")
    recipe = gr.Radio(
        [(t(f"make.recipe.{kind}"), kind) for kind in RECIPES],
        value=USUAL_RECIPE,
        label=t("make.recipe"),
        elem_id="make-recipe",
    )
    recipes = {}
    for kind in RECIPES:
        with gr.Column(visible=kind == USUAL_RECIPE) as recipes[kind]:
            _group(_settings(RECIPES[kind], f"recipe.{kind}."), "recipe", t, fields)
    generator = gr.Radio(
        [(t(f"make.generator.{kind}"), kind) for kind in GENERATORS],
        value=USUAL_GENERATOR,
        label=t("make.generator"),
        elem_id="make-generator",
    )
    generators = {}
    for kind in GENERATORS:
        with gr.Column(visible=kind == USUAL_GENERATOR) as generators[kind]:
            if kind in HINTS:
                Panel(HINTS[kind](ui))
            _group(_settings(GENERATORS[kind], f"generator.{kind}."), "generator", t, fields)
    _group([one for one in _settings(DraftSpec, "") if "." not in _key(one)], "general", t, fields)
    with gr.Row(elem_classes=["at-buttons"]):
        start = gr.Button(t("make.start"), variant="primary", elem_id="make-start")
    return MakeForm(dataset, recipe, recipes, generator, generators, fields, start)


def _settings(spec: Any, at: str) -> list[Setting]:
    return list(settings_of(spec, f"make.{at}"))


def _group(found: Sequence[Setting], rest_of: str, t: Text, fields: Fields) -> None:
    """The simple settings at once, the others one click away."""
    simple = [one for one in found if one.simple]
    rest = [one for one in found if not one.simple]
    for one in simple:
        fields[_key(one)] = _field(one, t)
    if rest:
        with gr.Accordion(t(f"make.more.{rest_of}"), open=False):
            for one in rest:
                fields[_key(one)] = _field(one, t)


def _key(one: Setting) -> str:
    return one.path.removeprefix("make.")


def _field(one: Setting, t: Text) -> Component:
    if _key(one) == TARGET:
        named: dict[str, Any] = {"label": one.name(t), "info": one.explained(t), "elem_id": "make-target"}
        return gr.Dropdown([], **named)
    if one.path.rpartition(".")[2] in LONG:
        return component(one, t, lines=6, max_lines=20)
    return component(one, t)


def wire(ui: Ui, form: MakeForm) -> None:
    """Keep what is entered, and show the settings of what is chosen."""
    everything: list[Any] = form.inputs
    for one in everything:
        one.input(partial(remember, ui, form), form.inputs, None, **QUIET)
    choice: list[Any] = [form.dataset, form.recipe, form.generator]
    for one in choice:
        one.input(partial(choose, ui, form), choice, [form.recipe, *form.groups], **QUIET)


def remember(ui: Ui, form: MakeForm, *values: Any) -> None:
    """Keep what stands in the form."""
    told = dict(zip([DATASET, RECIPE, GENERATOR, *form.fields], values, strict=True))
    with ui.store.write() as session:
        drafts.put(session, PAGE, told)


def choose(ui: Ui, form: MakeForm, dataset: str | None, recipe: str | None, generator: str) -> Updates:
    """Offer the recipes that fit the dataset's rows, and the settings of what is chosen."""
    with ui.store.read() as session:
        kinds = {one.name: one.row_kind for one in datasets.listing(session)}
    fitting = [kind for kind, spec in RECIPES.items() if kinds.get(dataset or "") in spec.takes]
    recipe = recipe if recipe in fitting else next(iter(fitting), None)
    return {
        form.recipe: gr.update(choices=[(ui.t(f"make.recipe.{kind}"), kind) for kind in fitting], value=recipe),
        **{group: gr.update(visible=kind == recipe) for kind, group in form.recipes.items()},
        **{group: gr.update(visible=kind == generator) for kind, group in form.generators.items()},
    }


def show(ui: Ui, form: MakeForm, dataset: str | None = None) -> tuple[Updates, bool]:
    """The form with what was entered before, for a dataset where the address names one; and whether there is none."""
    with ui.store.read() as session:
        names = [one.name for one in datasets.listing(session) if one.row_kind in DRAFTED_FROM]
        kept = drafts.get(session, PAGE)
        known = talk.choices(session, ui.t, also=[kept.get(TARGET)])
    targets = [(label, value) for label, value in known if talk.FORM not in value]
    if not names:
        return {}, True
    wanted = dataset or kept.get(DATASET)
    wanted = wanted if wanted in names else names[0]
    target = kept.get(TARGET)
    target = target if target in [value for _, value in targets] else targets[0][1] if targets else None
    fields = [(GENERATOR, form.generator), *form.fields.items()]
    entered: Updates = {one: gr.update(value=kept[key]) for key, one in fields if key in kept}
    generator = kept.get(GENERATOR, USUAL_GENERATOR)
    return {
        **entered,
        **choose(ui, form, wanted, kept.get(RECIPE), generator),
        form.dataset: gr.update(choices=names, value=wanted),
        form.fields[TARGET]: gr.update(choices=targets, value=target),
    }, False


def named(error: Refusal, t: Text) -> Refusal:
    """The refusal with its fields called as on the form."""
    if not isinstance(error, ProblemError):
        return error
    return ProblemError([replace(one, where=Where(_label(one.where.field, t))) for one in error.problems])


def _label(field: str | None, t: Text) -> str | None:
    """What a field of the spec is called on the form: `recipe.count` by whichever recipe has it."""
    section, _, name = (field or "").rpartition(".")
    catalogues: dict[str, Mapping[str, type[EntrySpec]]] = {"recipe": RECIPES, "generator": GENERATORS}
    kinds = catalogues.get(section, {})
    found = [
        one
        for kind, spec in kinds.items()
        for one in _settings(spec, f"{section}.{kind}.")
        if one.path.endswith(f".{name}")
    ] or [one for one in _settings(DraftSpec, "") if one.path == f"make.{field}"]
    return found[0].name(t) if found else t.get(f"make.{name}", field or "") or None


def spec_of(form: MakeForm, values: Sequence[Any]) -> tuple[str, Values]:
    """What the inputs say, as the dataset's name and the rest of a spec."""
    dataset, recipe, generator, *given = values
    told = dict(zip(form.fields, given, strict=True))
    spec: Values = {name: _read(value) for name, value in told.items() if "." not in name}
    for section, kind in (("recipe", recipe), ("generator", generator)):
        own = {name.rpartition(".")[2]: value for name, value in told.items() if name.startswith(f"{section}.{kind}.")}
        spec[section] = {"kind": kind, **{name: _read(value) for name, value in own.items()}}
    return str(dataset or ""), spec


def _read(value: Any) -> Any:
    """A whole number as one: fields of numbers send fractions."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
