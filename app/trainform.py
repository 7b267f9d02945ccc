"""The Train page's form: its components by field path, and what they show of a filled form."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.components import Component

from app import form
from app.filling import METHODS, Filled, StartPoint, World
from app.form import Setting, plain, settings
from app.language import Text
from app.measure import number
from app.panel import Panel
from app.render import Html, link, note
from engine.objectives import OBJECTIVES
from storage.datasets import Version

CHOSEN_ABOVE = ("data.dataset", "model.id", "model.start_from", "name")
"""Settings that stand at the top with components of their own."""

Updates = dict[Any, Any]


@dataclass(frozen=True, slots=True)
class TrainForm:
    """The components of the form; nothing is found by its position."""

    fields: dict[str, Component]
    method: gr.Radio
    more: gr.Accordion
    mended: Panel
    """What a remedy changed, for which run."""

    @property
    def components(self) -> list[Any]:
        return [*self.fields.values(), self.method, self.more, self.mended]


def build(t: Text) -> TrainForm:
    """Lay the form out: what is trained on what, how, a few settings, and all others one click away."""
    fields: dict[str, Component] = {}
    mended = Panel(elem_id="train-mended")
    rest = [one for one in settings().values() if one.path not in CHOSEN_ABOVE]
    with gr.Group(elem_classes=["at-fields"]):
        for path in ("data.dataset", "model.id"):
            fields[path] = _chooser(path, t)
        objectives = [(t(f"objective.{kind}"), kind) for kind in OBJECTIVES]
        fields["objective.kind"] = _radio("objective.kind", objectives, t)
        fields["model.start_from"] = _chooser("model.start_from", t)
        method = _radio("method", [(t(f"method.{name}"), name) for name in METHODS], t)
        fields["name"] = form.component(settings()["name"], t)
    with gr.Group(elem_classes=["at-fields", "at-simple"]):
        fields |= {one.path: form.component(one, t) for one in _by_weight(rest) if one.simple}
    others = [one for one in rest if not one.simple]
    with gr.Accordion(t("train.all", n=len(others), changed=0), open=False, elem_classes=["at-more"]) as more:
        for heading, members in _sections(others, t):
            gr.Markdown(f"**{heading}**", elem_classes=["at-section"])
            with gr.Group(elem_classes=["at-fields"]):
                fields |= {one.path: form.component(one, t) for one in members}
    return TrainForm(fields, method, more, mended)


FIRST = ("training.epochs", "training.learning_rate")


def _by_weight(members: list[Setting]) -> list[Setting]:
    """What matters most stands first."""
    return sorted(members, key=lambda one: FIRST.index(one.path) if one.path in FIRST else len(FIRST))


def _chooser(path: str, t: Text) -> gr.Dropdown:
    one = settings()[path]
    return gr.Dropdown(choices=[], value=None, label=one.name(t), elem_id=form.element_id(path))


def _radio(path: str, choices: list[tuple[str, str]], t: Text) -> gr.Radio:
    label, info = t(f"field.{path}.label"), t(f"field.{path}.help")
    return gr.Radio(choices=choices, value=None, label=label, info=info, elem_id=form.element_id(path))


def _sections(members: list[Setting], t: Text) -> Iterator[tuple[str, list[Setting]]]:
    names = dict.fromkeys(_section(one) for one in members)
    for name in names:
        yield t(f"section.{name}"), [one for one in members if _section(one) == name]


def _section(one: Setting) -> str:
    return one.path.split(".")[0] if "." in one.path else "run"


def updates(made: TrainForm, after: Filled, *, world: World, t: Text, before: Filled | None = None) -> Updates:
    """Return what the components show anew; with `before`, only what differs: nobody's typing is undone."""
    found: Updates = {}
    for path, component in made.fields.items():
        new = _shown(path, after, world, t)
        old = None if before is None else _shown(path, before, world, t)
        if new != old:
            found[component] = gr.update(
                **{key: value for key, value in new.items() if old is None or old[key] != value}
            )
    if before is None or before.method != after.method:
        found[made.method] = gr.update(value=after.method, info=_method_info(after, t))
    others = [
        one.path
        for one in settings().values()
        if not one.simple and one.path not in CHOSEN_ABOVE and _applies(one, after)
    ]
    num_changed = len([path for path in after.changed if path in others and path != "model.quantization"])
    opened: dict[str, Any] = {"open": True} if before is None and set(others) & set(_mended(after)) else {}
    found[made.more] = gr.update(label=t("train.all", n=len(others), changed=num_changed), **opened)
    if before is None or _mending(before, t) != _mending(after, t):
        found[made.mended] = _mending(after, t)
    return found


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
            before=_value(value, t),
            now=_value(filled.values[path], t),
        )
        for path, value in _mended(filled).items()
    )
    run = link(t("train.mended_run", id=filled.mended.run), f"/runs?run={filled.mended.run}")
    return note(t("train.mended"), " · ".join(changes), action=run)


def _value(value: Any, t: Text) -> str:
    if isinstance(value, bool):
        return t("train.on" if value else "train.off")
    return plain(value) if isinstance(value, int | float) else str(value or "–")


def _shown(path: str, filled: Filled, world: World, t: Text) -> dict[str, Any]:
    one = settings().get(path)
    shown: dict[str, Any] = {"value": filled.values.get(path)}
    if one is not None:
        shown |= {"info": _info(one, filled, t), "visible": _applies(one, filled)}
    if path in CHOICES_OF:
        shown["choices"] = _with_current(CHOICES_OF[path](world, t), shown["value"], t)
        if path == "model.start_from":
            shown["value"] = shown["value"] or ""  # a choice of its own: the model itself
    return shown


def _applies(one: Setting, filled: Filled) -> bool:
    """Whether the choices made have this setting at all."""
    if one.section is None:
        return True
    section, kind = one.section.split(".")
    return filled.values.get(f"{section}.kind") == kind


def _info(one: Setting, filled: Filled, t: Text) -> str:
    """Help, and why the value is what it is; on the first screen the reason says enough."""
    reason = why(one, filled, t)
    if one.path in CHOICES_OF:
        return reason or t.get(f"train.help.{one.path}")
    return reason if reason and one.simple else " ".join(part for part in (one.explained(t), reason) if part)


def why(one: Setting, filled: Filled, t: Text) -> str:
    """Return the reason of a default with its source, or what the default of a changed value is."""
    if (mended := _mended(filled)) and one.path in mended:
        return t("form.mended", before=_value(mended[one.path], t))
    default = filled.defaults.get(one.path)
    if one.path in filled.changed and one.kind in ("whole", "number") and default is not None:
        return t("form.changed", default=plain(default))
    reason = filled.reasons.get(one.path)
    if reason is None or not t.has(reason.key):
        return ""
    values = {key: plain(value) if isinstance(value, int | float) else value for key, value in reason.values.items()}
    sentence = t(reason.key, **values)
    source = t.get(f"source.{reason.source}")
    return f"{sentence} ({source})" if source else sentence


def _method_info(filled: Filled, t: Text) -> str:
    return (
        t(f"method.{filled.method}.help")
        if filled.method
        else t("method.other", quantization=filled.values["model.quantization"])
    )


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


CHOICES_OF = {"data.dataset": _datasets, "model.id": _models, "model.start_from": _starts}
"""Where the choices are rows of the store."""
