"""The choices of the Train page that carry a sentence each: what is learned, and which weights move."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from app import form
from app.filling import METHODS, Filled, World
from app.language import Text
from app.render import Html, chip, tag
from engine.objectives import OBJECTIVES
from engine.objectives.groups import GROUPS, group_of
from engine.tuners import TUNERS


@dataclass(frozen=True, slots=True)
class Choice:
    """One button of a set of which one is pressed."""

    name: str
    sentence: str
    order: str
    """What the page is told where it is chosen."""
    is_chosen: bool
    is_off: bool = False


def objectives(filled: Filled, world: World, t: Text) -> Html:
    """Return the objectives that the dataset fits, by what they learn from; the others apart, each with its reason."""
    version = world.dataset(filled.values.get("data.dataset"))
    chosen = filled.values["objective.kind"]
    rows = version.row_kind if version else None
    fitting = [kind for kind, entry in OBJECTIVES.items() if rows is None or rows in entry.row_kinds]
    others = [kind for kind in OBJECTIVES if kind not in fitting]
    shown = [_grouped(t(f"objective_group.{group}"), kinds, chosen, t) for group, kinds in _by_group(fitting)]
    parts: list[object] = [tag("div", *shown, cls="at-groups")]
    if others and rows is not None:
        body = [_misfits(needed, kinds, filled, rows, t) for needed, kinds in _by_rows(others)]
        title = t("train.other_rows", n=len(others))
        parts.append(_folded("objectives", title, tag("div", *body, cls="at-groups"), is_open=chosen in others))
    return _chooser("objective.kind", parts, t)


def _by_group(kinds: list[str]) -> Iterator[tuple[str, list[str]]]:
    groups = {kind: group_of(OBJECTIVES[kind]) for kind in kinds}
    for group in dict.fromkeys((*GROUPS, *groups.values())):
        if members := [kind for kind in kinds if groups[kind] == group]:
            yield group, members


def _by_rows(kinds: list[str]) -> Iterator[tuple[tuple[str, ...], list[str]]]:
    needs = {kind: tuple(OBJECTIVES[kind].row_kinds) for kind in kinds}
    for needed in dict.fromkeys(needs.values()):
        yield needed, [kind for kind in kinds if needs[kind] == needed]


def _grouped(title: str, kinds: list[str], chosen: str, t: Text) -> Html:
    picks = (_objective(kind, chosen, t) for kind in kinds)
    return tag("div", tag("p", title, cls="at-group"), *(_pick("objective", one) for one in picks))


def _misfits(needed: tuple[str, ...], kinds: list[str], filled: Filled, rows: str, t: Text) -> Html:
    """Objectives that need other rows than the dataset holds; what was chosen all the same is shown as chosen."""
    chosen = filled.values["objective.kind"]
    why = tag("p", misfit(needed, rows, t), cls="at-group")
    how = " ".join(sentence for kind in needed if (sentence := t.get(f"row_kind.{kind}.how")))
    picks = (_objective(kind, chosen, t, is_off=kind != chosen) for kind in kinds)
    return tag("div", why, *(_pick("objective", one) for one in picks), tag("p", how, cls="at-soft at-small at-how"))


def misfit(needed: Iterable[str], given: str, t: Text) -> str:
    """Return why a dataset does not fit."""
    kinds = t("train.or").join(t.get(f"row_kind.{kind}", kind) for kind in needed)
    return t("train.needs_rows", needed=kinds, given=t.get(f"row_kind.{given}", given))


def _objective(kind: str, chosen: str, t: Text, *, is_off: bool = False) -> Choice:
    name, sentence = objective_name(kind, t), t.get(f"objective.{kind}.when")
    return Choice(name, sentence, f"choose:objective.kind:{kind}", kind == chosen, is_off)


def objective_name(kind: str, t: Text) -> str:
    return t.get(f"objective.{kind}", kind)


def tuner_name(kind: str, t: Text) -> str:
    return t.get(f"tuner.{kind}", kind)


def methods(filled: Filled, t: Text) -> Html:
    """Return the usual methods, one click each, and all tuners on each form of the base one click away."""
    usual = [
        Choice(t(f"method.{name}"), t(f"method.{name}.help"), f"method:{name}", name == filled.method)
        for name in METHODS
    ]
    body = tag("div", _base(filled, t), _tuners(filled, t), cls="at-stack")
    title: object = t("train.other_methods", n=len(TUNERS))
    if filled.method is None:
        title = tag("span", title, " ", chip(method_name(filled, t), "accent"))
    parts = (
        tag("div", *(_pick("method", one) for one in usual), cls="at-groups"),
        _folded("tuners", title, body, is_open=filled.method is None),
    )
    return _chooser("method", parts, t)


def method_name(filled: Filled, t: Text) -> str:
    """Return how the combination of tuner and base is called."""
    if filled.method:
        return t(f"method.{filled.method}")
    values = {"tuner": filled.values["tuner.kind"], "quantization": filled.values["model.quantization"]}
    return t("method.other", **values)


def _base(filled: Filled, t: Text) -> Html:
    """In which form the base lies in memory: some tuners refuse some."""
    path = "model.quantization"
    one, present = form.settings()[path], filled.values["model.quantization"]
    options = (
        tag("option", form.choice_name(path, value, t), value=value, selected=value == present) for value in one.choices
    )
    chosen = tag("select", *options, cls="at-select", data_order_of=f"choose:{path}")
    return tag("label", tag("span", one.name(t)), " ", chosen, cls="at-base")


def _tuners(filled: Filled, t: Text) -> Html:
    present = filled.values["tuner.kind"]
    reasons = {kind: refusal(kind, filled, t) for kind in TUNERS}
    picks = [
        Choice(
            tuner_name(kind, t),
            reason or t.get(f"tuner.{kind}.when"),
            f"choose:tuner.kind:{kind}",
            kind == present,
            bool(reason) and kind != present,
        )
        for kind, reason in reasons.items()
    ]
    return tag("div", *(_pick("tuner", one) for one in picks), cls="at-groups")


def refusal(kind: str, filled: Filled, t: Text) -> str:
    """Return why a tuner cannot train with the other choices as they are; empty where it can."""
    tuner, form_of_base = TUNERS[kind], str(filled.values["model.quantization"])
    if reason := tuner.refuses.get(form_of_base):
        name = t.get(f"choice.quantization.{form_of_base}", form_of_base)
        return t("train.refuses_base", base=name, why=t.get(f"tuner_refuses.{reason}", reason))
    return t("train.refuses_packing") if filled.values["data.packing"] and not tuner.packs else ""


def _chooser(path: str, parts: Iterable[object], t: Text) -> Html:
    legend = tag("legend", t(f"field.{path}.label"))
    about = tag("p", t(f"field.{path}.help"), cls="at-soft at-small")
    return tag("fieldset", legend, about, *parts, id=form.element_id(path), cls="at-chooser")


def _folded(name: str, title: object, body: Html, *, is_open: bool) -> Html:
    return tag("details", tag("summary", title), body, cls="at-others", data_keep=name, open=is_open)


def _pick(group: str, one: Choice) -> Html:
    button = tag(
        "input",
        type="radio",
        name=f"at-{group}",
        value=one.order.rpartition(":")[2],
        checked=one.is_chosen,
        disabled=one.is_off,
        data_order=one.order,
    )
    said = tag("span", tag("strong", one.name), tag("small", one.sentence) if one.sentence else "")
    return tag("label", button, said, cls="at-pick")
