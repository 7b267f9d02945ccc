"""Spec fields as form components and back, matched by field path (`training.epochs`), never by position."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal, Union, get_args, get_origin

import gradio as gr
from gradio.components import Component
from pydantic.fields import FieldInfo

from app.language import Text
from app.measure import plain
from engine.objectives import OBJECTIVES
from engine.specs.base import Spec
from engine.specs.job import JobSpec
from engine.specs.problem import Problem, Where
from engine.tuners import TUNERS

SECTIONS: dict[str, dict[str, type[Spec]]] = {
    "objective": {kind: entry.Spec for kind, entry in OBJECTIVES.items()},
    "tuner": {kind: entry.Spec for kind, entry in TUNERS.items()},
}
"""The sections of the spec that follow a choice: their fields stand under `section.kind.field`."""

Values = dict[str, Any]
LARGEST_TOLD = 200_000
"""A bound beyond this only guards against nonsense; nobody needs to read it."""


class Required:
    """Stands where a field has no default of its own."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A spec field as a form needs it."""

    path: str
    kind: str
    """whole, number, choice, switch or words: a key of `MAKERS`"""
    label: str
    help: str
    default: Any
    unit: str | None = None
    simple: bool = False
    optional: bool = False
    choices: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None

    @property
    def section(self) -> str | None:
        """`objective.dpo` for a field that exists only with that choice."""
        parts = self.path.split(".")
        return ".".join(parts[:2]) if parts[0] in SECTIONS else None

    def name(self, t: Text) -> str:
        return t.get(f"field.{self.path}.label", self.label)

    def explained(self, t: Text) -> str:
        """Return the one-sentence help, with the unit and the bounds where there are any worth telling."""
        sentence = t.get(f"field.{self.path}.help", self.help)
        limits = self._limits(t)
        return f"{sentence} ({limits})" if limits else sentence

    def _limits(self, t: Text) -> str:
        unit = t.get(f"form.unit.{self.unit}", self.unit or "")
        if self.low is None or self.high is None or self.high > LARGEST_TOLD:
            return unit
        return t("form.bounds", low=plain(self.low), high=plain(self.high), unit=unit).strip()


@lru_cache(maxsize=1)
def settings() -> Mapping[str, Setting]:
    """Return every setting of a training run by its path, in the order of the spec."""
    found = list(settings_of(JobSpec, ""))
    for section, kinds in SECTIONS.items():
        for kind, spec in kinds.items():
            found += settings_of(spec, f"{section}.{kind}.")
    return {setting.path: setting for setting in found}


def settings_of(spec: type[Spec], prefix: str) -> Iterator[Setting]:
    """Return the settings of a spec by their paths, each below the prefix; those of parts that are specs too."""
    for name, info in spec.model_fields.items():
        part = info.annotation
        if isinstance(part, type) and issubclass(part, Spec):
            yield from settings_of(part, f"{prefix}{name}.") if name not in SECTIONS else ()
        elif info.title is not None:
            yield _setting(f"{prefix}{name}", info)


def _setting(path: str, info: FieldInfo) -> Setting:
    kind, optional, choices = _kind(info.annotation)
    extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
    unit = extra.get("unit")
    return Setting(
        path=path,
        kind=kind,
        label=info.title or path,
        help=info.description or "",
        default=Required if info.is_required() else info.default,
        unit=str(unit) if unit else None,
        simple=bool(extra.get("simple")),
        optional=optional,
        choices=choices,
        low=_bound(info, "ge", "gt"),
        high=_bound(info, "le", "lt"),
    )


def _kind(annotation: Any) -> tuple[str, bool, tuple[str, ...]]:
    if get_origin(annotation) in (Union, types.UnionType):
        kept = [part for part in get_args(annotation) if part is not type(None)]
        kind, _, choices = _kind(kept[0])
        return kind, True, choices
    if get_origin(annotation) is Literal:
        return "choice", False, tuple(get_args(annotation))
    return {bool: "switch", int: "whole", float: "number"}.get(annotation, "words"), False, ()


def _bound(info: FieldInfo, *names: str) -> float | None:
    found = [getattr(item, name) for item in info.metadata for name in names if hasattr(item, name)]
    return float(found[0]) if found else None


def component(setting: Setting, t: Text, **options: Any) -> Component:
    """Return the form component of a setting."""
    named: dict[str, Any] = {
        "label": setting.name(t),
        "info": setting.explained(t),
        "elem_id": element_id(setting.path),
    }
    default = None if setting.default is Required else setting.default
    return MAKERS[setting.kind](setting, t, {**named, "value": default, **options})


def _choice(setting: Setting, t: Text, named: dict[str, Any]) -> Component:
    choices = [(choice_name(setting.path, value, t), value) for value in setting.choices]
    return gr.Dropdown(choices=choices, filterable=False, **named)


def _number(setting: Setting, t: Text, named: dict[str, Any]) -> Component:
    # No minimum or maximum: the spec refuses what is out of bounds, with the field's name in the reader's language.
    shown: dict[str, Any] = {"placeholder": t("form.empty")} if setting.optional else {}
    return gr.Number(precision=0 if setting.kind == "whole" else None, **shown, **named)


def _words(setting: Setting, t: Text, named: dict[str, Any]) -> Component:
    return gr.Textbox(placeholder=t("form.empty") if setting.optional else None, **{"max_lines": 1, **named})


MAKERS: dict[str, Callable[[Setting, Text, dict[str, Any]], Component]] = {
    "whole": _number,
    "number": _number,
    "choice": _choice,
    "switch": lambda _setting, _t, named: gr.Checkbox(**named),
    "words": _words,
}


def element_id(path: str) -> str:
    """Return the id of a setting's component in the page."""
    return "field-" + path.replace(".", "-").replace("_", "-")


def choice_name(path: str, value: str, t: Text) -> str:
    """Return how a choice is called."""
    return t.get(f"choice.{path}.{value}", value)


def read(path: str, value: Any) -> Any:
    """Return what a component sent as the spec takes it: an empty text or number is no value."""
    setting = settings().get(path)
    if isinstance(value, str):
        return value.strip() or None
    if setting is not None and setting.kind == "whole" and isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the spec's JSON from values by path; fields of choices that were not made are left out.

    >>> nested({"seed": 7, "tuner.kind": "full", "tuner.lora.rank": 8, "training.epochs": 1})
    {'seed': 7, 'tuner': {'kind': 'full'}, 'training': {'epochs': 1}}
    """
    data: dict[str, Any] = {}
    for path, value in values.items():
        parts = path.split(".")
        if parts[0] in SECTIONS and len(parts) > 2:
            if values.get(f"{parts[0]}.kind") != parts[1]:
                continue
            parts = [parts[0], *parts[2:]]
        place = data
        for part in parts[:-1]:
            place = place.setdefault(part, {})
        place[parts[-1]] = value
    return data


def flat(data: Mapping[str, Any]) -> Values:
    """Return values by path from a spec's JSON: the inverse of `nested`."""
    values: Values = {}
    for name, value in data.items():
        if not isinstance(value, Mapping):
            values[name] = value
            continue
        kind = value.get("kind") if name in SECTIONS else None
        for key, inner in _leaves(value):
            values[f"{name}.{kind}.{key}" if kind and key != "kind" else f"{name}.{key}"] = inner
    return values


def _leaves(data: Mapping[str, Any], at: str = "") -> Iterator[tuple[str, Any]]:
    """The values of a section by their paths within it, whatever parts it has."""
    for key, value in data.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{at}{key}.")
        else:
            yield f"{at}{key}", value


def label_of(field: str, t: Text) -> str:
    """Return what a person calls a field of the spec: `objective.beta` from whichever objective has it."""
    section, _, rest = field.partition(".")
    paths = [field, *(f"{section}.{kind}.{rest}" for kind in SECTIONS.get(section, ()))]
    known = next((settings()[path] for path in paths if path in settings()), None)
    if known is not None:
        return known.name(t)
    return t.get(f"field.{field}.label", field)


def named(problem: Problem, t: Text, *, at: str = "") -> Problem:
    """Return a problem whose field is called as on the form; `at` is the form's own section of the language file."""
    field = problem.where.field
    if field is None:
        return problem
    return replace(problem, where=Where(label_of(f"{at}.{field}" if at else field, t), problem.where.line))
