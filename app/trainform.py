"""The Train page's form: its components by field path, and what they show of a filled form."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.components import Component

from app import choosers, differences, form, presetcards, searching
from app.differences import CHOSEN_ABOVE, value_of
from app.filling import Filled, StartPoint, World, fill
from app.form import Setting, settings
from app.language import Text
from app.measure import number
from app.panel import Panel
from app.reasons import sentence
from app.render import Html, link, note
from storage.datasets import Version
from storage.targets import BASE

Updates = dict[Any, Any]


@dataclass(frozen=True, slots=True)
class Scene:
    """A filled form and what there was to choose from."""

    filled: Filled
    world: World


EMPTY = World((), (), (), ())


@dataclass(frozen=True, slots=True)
class TrainForm:
    """The components of the form; nothing is found by its position."""

    fields: dict[str, Component]
    panels: dict[str, Panel]
    """What is drawn of the form as a whole: keys of `DRAWN`."""
    more: gr.Accordion
    built: Scene
    """What the components show before anybody has opened the page."""

    @property
    def components(self) -> list[Any]:
        return [*self.fields.values(), *self.panels.values(), self.more]


def build(t: Text) -> TrainForm:
    """Lay the form out: a purpose, what is trained on what, how, a few settings, and all others one click away."""
    built = Scene(fill({}, EMPTY), EMPTY)
    fields: dict[str, Component] = {}
    panels = {name: Panel(elem_id=f"train-{name}") for name in ("mended", "presets")}
    Panel(searching.box(t), elem_id="train-search")
    rest = [one for one in settings().values() if one.path not in CHOSEN_ABOVE]
    with gr.Group(elem_classes=["at-fields"]):
        for path in ("data.dataset", "model.id"):
            fields[path] = _chooser(path, built, t)
        panels["objective"] = Panel(elem_id="train-objective", elem_classes=["at-whole-row"])
        fields["model.start_from"] = _chooser("model.start_from", built, t)
        fields["name"] = _field(settings()["name"], built, t)
        panels["method"] = Panel(elem_id="train-method", elem_classes=["at-whole-row"])
    simple, others = [one for one in _by_weight(rest) if one.simple], [one for one in rest if not one.simple]
    parts = [one for one in simple if "." in _section(one)]
    with gr.Group(elem_classes=["at-fields", "at-simple"]):
        fields |= {one.path: _field(one, built, t) for one in simple if one not in parts}
    fields |= _titled(parts, built, t)
    with gr.Accordion(
        _more_label(built.filled, t), open=False, elem_id="all-settings", elem_classes=["at-more"]
    ) as more:
        fields |= _titled(others, built, t)
    return TrainForm(fields, panels, more, built)


def _titled(members: list[Setting], built: Scene, t: Text) -> dict[str, Component]:
    """Lay settings out by the parts of the spec, each with its heading; a part within one has narrow fields."""
    fields: dict[str, Component] = {}
    for name, heading, own in _sections(members, t):
        with gr.Column(elem_classes=["at-titled"]):
            gr.Markdown(heading, elem_classes=["at-section"])
            with gr.Group(elem_classes=["at-fields", "at-many"] if "." in name else ["at-fields"]):
                fields |= {one.path: _field(one, built, t) for one in own}
    return fields


FIRST = ("training.epochs", "training.learning_rate")


def _by_weight(members: list[Setting]) -> list[Setting]:
    """What matters most stands first."""
    return sorted(members, key=lambda one: FIRST.index(one.path) if one.path in FIRST else len(FIRST))


def _chooser(path: str, built: Scene, t: Text) -> gr.Dropdown:
    label = settings()[path].name(t)
    return gr.Dropdown(label=label, elem_id=form.element_id(path), **_shown(path, built, t))


def _field(one: Setting, built: Scene, t: Text) -> Component:
    if one.path in CHOICES_OF:
        return _chooser(one.path, built, t)
    return form.component(one, t, **_shown(one.path, built, t))


def _sections(members: list[Setting], t: Text) -> Iterator[tuple[str, str, list[Setting]]]:
    names = dict.fromkeys(_section(one) for one in members)
    for name in names:
        section, _, part = name.partition(".")
        heading = t.get(f"section.{name}", f"{t(f'section.{section}')}: {part}")
        about = t.get(f"section.{name}.help")
        yield name, f"**{heading}** {about}".strip(), [one for one in members if _section(one) == name]


def _section(one: Setting) -> str:
    """The part of the spec; of an entry's own section, also the part within it."""
    section, *inner = one.path.split(".")[:-1] or ["run"]
    return ".".join((section, *inner[1:2])) if one.section else section


def updates(made: TrainForm, t: Text, after: Scene, before: Scene | None) -> Updates:
    """Return what the components show anew; with `before`, only what differs: nobody's typing is undone."""
    found: Updates = {}
    for path, component in made.fields.items():
        new = _shown(path, after, t)
        old = {} if before is None else _shown(path, before, t)
        if before is made.built and new.get("value", 0) is None:
            old.pop("value", None)  # a number field that was built empty shows 0 until it is told (Gradio 6.31)
        if differs := {key: value for key, value in new.items() if key not in old or old[key] != value}:
            found[component] = gr.update(**differs)
    for name, panel in made.panels.items():
        drawn = DRAWN[name](after, t)
        if before is None or before is made.built or DRAWN[name](before, t) != drawn:
            found[panel] = drawn
    label = _more_label(after.filled, t)
    if before is None or _more_label(before.filled, t) != label:
        found[made.more] = gr.update(label=label)
    if before is made.built and set(_others(after.filled)) & set(_mended(after.filled)):
        found[made.more] = gr.update(label=label, open=True)
    return found


def _others(filled: Filled) -> list[str]:
    """The settings one click away that this run has."""
    known = (one for one in settings().values() if not one.simple and one.path not in CHOSEN_ABOVE)
    return [one.path for one in known if filled.applies(one.path)]


def _more_label(filled: Filled, t: Text) -> str:
    others = _others(filled)
    num_changed = len([path for path in filled.changed if path in others and path != "model.quantization"])
    return t("train.all", n=len(others), changed=num_changed)


def _mended(filled: Filled) -> dict[str, Any]:
    """The values before of the settings that a remedy changed and that are still changed."""
    before = filled.mended.before if filled.mended else {}
    return {path: value for path, value in before.items() if filled.values.get(path) != value}


def _mending(filled: Filled, t: Text) -> Html:
    if filled.mended is None:
        return Html("")
    changes = (
        t(
            "train.mended_one",
            label=form.label_of(path, t),
            before=value_of(path, value, t),
            now=value_of(path, filled.values[path], t),
        )
        for path, value in _mended(filled).items()
    )
    run = link(t("train.mended_run", id=filled.mended.run), f"/runs?run={filled.mended.run}")
    return note(t("train.mended"), " · ".join(changes), action=run)


def _shown(path: str, scene: Scene, t: Text) -> dict[str, Any]:
    """What a component shows; of a setting that the choices made do not have, only that it is not there."""
    one, filled = settings()[path], scene.filled
    if not filled.applies(path):
        return {"visible": False}
    shown = {"value": filled.values.get(path), "info": _info(one, filled, t), "visible": True}
    if path in CHOICES_OF:
        shown["choices"] = _with_current(CHOICES_OF[path](scene.world, t), shown["value"], t)
        if one.optional:
            shown["value"] = shown["value"] or ""  # a choice of its own: the model itself, no second dataset
    return shown


def _info(one: Setting, filled: Filled, t: Text) -> str:
    """Help, and why the value is what it is; on the first screen the reason of an advised value says enough."""
    reason = why(one, filled, t)
    if one.path in CHOSEN_ABOVE and one.path in CHOICES_OF:
        return reason or t.get(f"train.help.{one.path}")
    alone = bool(reason) and one.simple and one.path in filled.reasons
    return reason if alone else " ".join(part for part in (one.explained(t), reason) if part)


def why(one: Setting, filled: Filled, t: Text) -> str:
    """Return who changed a setting and what its default is; of an unchanged one, why its default is what it is.

    That is the reason of the advice with its source, else the sentence `field.<path>.why` where there is one.
    """
    path = one.path
    if (mended := _mended(filled)) and path in mended:
        return t("form.mended", before=value_of(path, mended[path], t))
    if path in filled.wanted:
        name = t.get(f"preset.{filled.preset}", str(filled.preset))
        return t("form.preset", name=name, why=sentence(filled.wanted[path], t))
    default = filled.defaults.get(path)
    if path in filled.changed and default is not None and path not in CHOICES_OF:
        return t("form.changed", default=value_of(path, default, t))
    reason = filled.reasons.get(path)
    return sentence(reason, t) if reason is not None else t.get(f"field.{path}.why")


def _with_current(choices: list[tuple[str, str]], current: Any, t: Text) -> list[tuple[str, str]]:
    """A value that is no longer there stays visible as such."""
    if current is None or current in [value for _, value in choices]:
        return choices
    return [*choices, (t("train.gone", name=current), current)]


def _datasets(world: World, t: Text) -> list[tuple[str, str]]:
    return [(dataset_name(one, t), one.name) for one in world.datasets]


def dataset_name(one: Version, t: Text) -> str:
    """Return how a dataset is called in a list of them."""
    return t(
        "train.dataset",
        name=one.name,
        version=one.version,
        rows=number(one.usable_rows),
        kind=t(f"row_kind.{one.row_kind}"),
    )


def _models(world: World, _t: Text) -> list[tuple[str, str]]:
    return [(one.name, one.name) for one in world.models]


def _starts(world: World, t: Text) -> list[tuple[str, str]]:
    return [(t("train.from_model"), ""), *((start_name(one, t), one.text) for one in world.starts)]


def start_name(one: StartPoint, t: Text) -> str:
    """Return how a checkpoint is called in a list of them."""
    key = "train.from_best" if one.is_best else "train.from_run"
    return t(key, id=one.job.id, name=one.job.name, step=number(one.checkpoint.step))


def _mixable(world: World, t: Text) -> list[tuple[str, str]]:
    return [(t("train.mix_none"), ""), *_datasets(world, t)]


def _teachers(world: World, t: Text) -> list[tuple[str, str]]:
    return [
        (t("train.choose"), ""),
        *((one.name, f"{BASE}{one.name}") for one in world.models),
        *_runs(world, t, "language"),
    ]


def _scorers(world: World, t: Text) -> list[tuple[str, str]]:
    return [(t("train.choose"), ""), *_runs(world, t, "score")]


def _runs(world: World, t: Text, head: str) -> list[tuple[str, str]]:
    return [(start_name(one, t), one.text) for one in world.starts if one.checkpoint.head == head]


CHOICES_OF = {
    "data.dataset": _datasets,
    "model.id": _models,
    "model.start_from": _starts,
    "data.mix_in": _mixable,
    "objective.distill.teacher": _teachers,
    "objective.grpo.rewards.reward_run.run": _scorers,
    "objective.rloo.rewards.reward_run.run": _scorers,
}
"""Where the choices are rows of the store."""

DRAWN: dict[str, Callable[[Scene, Text], Html]] = {
    "mended": lambda scene, t: _mending(scene.filled, t),
    "presets": lambda scene, t: presetcards.html(scene.filled, scene.world, t),
    "objective": lambda scene, t: choosers.objectives(scene.filled, scene.world, t),
    "method": lambda scene, t: choosers.methods(scene.filled, t),
    "differences": lambda scene, t: differences.html(scene.filled, t),
}
"""The panels that show the form as a whole."""
