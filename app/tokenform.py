"""How rows are to become tokens: the model, and those of a run's settings that decide it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import gradio as gr
from gradio.components import Component

from app import form
from app.form import Setting, label_of, nested, settings
from app.language import Text
from app.ui import Ui
from engine.objectives import OBJECTIVES
from engine.specs.job import JobSpec, parse
from engine.tuners import TUNERS
from storage import models
from storage.datasets import Version

LENGTH, TRUNCATION, PACKING = "data.max_length", "data.truncation", "data.packing"
TEMPLATE, NEW_TOKENS = "model.chat_template", "model.add_tokens"
SETTINGS = (
    LENGTH,
    TRUNCATION,
    TEMPLATE,
    NEW_TOKENS,
    "objective.sft.train_on",
    "objective.sft.train_on_prompt",
    PACKING,
)
"""The settings of a run that decide its tokens."""
SHOWN_IN: Mapping[str, tuple[str, ...]] = {"tokens": SETTINGS, "figures": (TEMPLATE, NEW_TOKENS)}
"""The views that depend on tokens, and which settings each is drawn for."""
Updates = dict[Any, Any]


@dataclass(frozen=True, slots=True)
class Chosen:
    """The model, the objective and the settings by their paths; what was not chosen is as in a new run."""

    model: str | None = None
    objective: str | None = None
    settings: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def length(self) -> Any:
        return self.settings[LENGTH]

    @property
    def truncation(self) -> Any:
        return self.settings[TRUNCATION]

    @property
    def packs(self) -> bool:
        return bool(self.settings[PACKING])

    @property
    def objective_spec(self) -> dict[str, Any] | None:
        """The section of the run's spec; None where nothing learns from such rows yet."""
        made: dict[str, Any] | None = self._nested().get("objective")
        return made

    def spec(self, one: Version) -> JobSpec:
        """The run that would learn from a version in this way; how it would be trained does not matter here.

        Raises:
            ProblemError: a setting is wrong.
        """
        made = self._nested()
        made["data"] |= {"dataset": one.name, "version": one.version}
        made["model"]["id"] = self.model
        return parse({**made, "tuner": {"kind": next(iter(TUNERS))}, "training": {"learning_rate": 1e-4}})

    def question(self, one: Version, **more: Any) -> dict[str, Any]:
        """What the preview child must know to turn rows of a version into tokens."""
        told = {"version_id": one.id, "model": self.model, "max_length": self.length, "objective": self.objective_spec}
        known = {"chat_template": self.settings[TEMPLATE], "add_tokens": self.settings[NEW_TOKENS]}
        return {**told, "truncation": self.truncation, **known, **more}

    def _nested(self) -> dict[str, Any]:
        return nested({**self.settings, **({"objective.kind": self.objective} if self.objective else {})})


@dataclass(frozen=True, slots=True)
class Known:
    """What can be chosen for the rows of a version, and what is chosen of it."""

    models: list[str]
    objectives: list[str]
    """Empty where nothing learns from such rows yet."""
    chosen: Chosen


@dataclass(frozen=True, slots=True, eq=False)
class TokenForm:
    """Its components."""

    box: gr.Group
    model: gr.Dropdown
    objective: gr.Dropdown
    fields: Mapping[str, Component]

    @property
    def inputs(self) -> list[Any]:
        return [self.model, self.objective, *self.fields.values()]

    @property
    def all(self) -> list[Any]:
        return [self.box, *self.inputs]

    def chosen(self, values: Mapping[Any, Any]) -> Chosen:
        """What the components say, by component."""
        read = {path: form.read(path, values.get(component)) for path, component in self.fields.items()}
        return Chosen(values.get(self.model), values.get(self.objective), read)


def build(t: Text) -> TokenForm:
    """Lay the form out, hidden."""
    with gr.Group(visible=False, elem_id="token-form", elem_classes=["at-fields"]) as box:
        model = gr.Dropdown([], label=label_of("model.id", t), elem_id="tokens-model")
        objective = gr.Dropdown([], label=t("field.objective.kind.label"), elem_id="tokens-objective")
        named = {LENGTH: t("data.length")}
        fields = {path: _component(settings()[path], named.get(path), t) for path in SETTINGS}
    return TokenForm(box, model, objective, fields)


def _component(setting: Setting, label: str | None, t: Text) -> Component:
    """Without its help, which stands on the Train page."""
    element = form.element_id(setting.path).replace("field-", "tokens-")
    return form.component(setting, t, info=None, label=label or setting.name(t), elem_id=element)


def known(ui: Ui, one: Version, chosen: Chosen) -> Known:
    """What can be chosen for a version; what does not fit it is as if it had not been chosen."""
    with ui.store.read() as session:
        names = [model.name for model in models.listing(session)]
    model = chosen.model if chosen.model in names else next(iter(names), None)
    fitting = [kind for kind, entry in OBJECTIVES.items() if one.row_kind in entry.row_kinds]
    objective = chosen.objective if chosen.objective in fitting else next(iter(fitting), None)
    values = {path: _value(settings()[path], objective, chosen) for path in SETTINGS}
    return Known(names, fitting, Chosen(model, objective, values))


def _value(setting: Setting, objective: str | None, chosen: Chosen) -> Any:
    value = chosen.settings.get(setting.path)
    fits = _applies(setting, objective) and (not setting.choices or value in _choices(setting, objective))
    return value if fits and value is not None else setting.default


def _applies(setting: Setting, objective: str | None) -> bool:
    if setting.path == PACKING:
        return _packs(objective)
    return setting.section in (None, f"objective.{objective}")


def _choices(setting: Setting, objective: str | None) -> list[str]:
    """Without `split` where a row is not one sequence."""
    return [one for one in setting.choices if one != "split" or setting.path != TRUNCATION or _packs(objective)]


def _packs(objective: str | None) -> bool:
    return objective is not None and OBJECTIVES[objective].packs


def show(ui: Ui, made: TokenForm, one: Version | None, view: str, chosen: Chosen) -> Updates:
    """Draw the components that a view depends on."""
    if one is None or view not in SHOWN_IN:
        return {**{component: gr.skip() for component in made.inputs}, made.box: gr.update(visible=False)}
    found = known(ui, one, chosen)
    paths = SHOWN_IN[view]
    objectives = [(ui.t(f"objective.{kind}"), kind) for kind in found.objectives]
    several = len(objectives) > 1
    return {
        made.box: gr.update(visible=bool(found.models)),
        made.model: gr.update(choices=found.models, value=found.chosen.model),
        made.objective: gr.update(choices=objectives, value=found.chosen.objective, visible=several),
        **{
            component: _field(settings()[path], found.chosen, ui.t, shown=path in paths)
            for path, component in made.fields.items()
        },
    }


def _field(setting: Setting, chosen: Chosen, t: Text, *, shown: bool) -> dict[str, Any]:
    visible = shown and _applies(setting, chosen.objective)
    named = [(form.choice_name(setting.path, one, t), one) for one in _choices(setting, chosen.objective)]
    more: dict[str, Any] = {"choices": named} if setting.choices else {}
    return gr.update(visible=visible, value=chosen.settings[setting.path], **more)
