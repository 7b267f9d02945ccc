"""The presets above the form: one click sets what a purpose asks for; the form says why, and can go back."""

from __future__ import annotations

from app.choosers import misfit
from app.filling import Filled, World
from app.language import Text
from app.reasons import sentence
from app.render import Html, tag
from engine.advice.presets import Preset, presets
from engine.objectives import OBJECTIVES


def html(filled: Filled, world: World, t: Text) -> Html:
    """Return a card for each preset; one whose objective the dataset does not fit says so."""
    if not presets():
        return Html("")
    cards = tag("div", *(_card(one, filled, world, t) for one in presets().values()), cls="at-presets")
    title = tag("h2", t("train.presets"), id="at-presets-title")
    return tag("section", title, cards, _taken(filled, t), aria_labelledby="at-presets-title")


def _card(preset: Preset, filled: Filled, world: World, t: Text) -> Html:
    version = world.dataset(filled.values.get("data.dataset"))
    needed = OBJECTIVES[preset.objective].row_kinds
    fits = version is None or version.row_kind in needed
    name = tag("strong", t.get(f"preset.{preset.name}", preset.name))
    when = t.get(f"preset.{preset.name}.when") if fits or version is None else misfit(needed, version.row_kind, t)
    return tag(
        "button",
        name,
        tag("small", when),
        type="button",
        cls="at-preset",
        data_order=f"preset:{preset.name}",
        aria_pressed="true" if filled.preset == preset.name and _whole(filled) else "false",
        disabled=not fits,
    )


def _whole(filled: Filled) -> bool:
    """Whether the preset that was taken still decides what is learned."""
    return "objective.kind" in filled.wanted


def _taken(filled: Filled, t: Text) -> Html:
    if filled.preset is None or not filled.wanted:
        return Html("")
    name = t.get(f"preset.{filled.preset}", filled.preset)
    differs = not set(filled.wanted).isdisjoint(filled.changed)
    key = ("train.preset_taken" if differs else "train.preset_same") if _whole(filled) else "train.preset_partly"
    in_list = "objective.kind" in filled.changed
    why = sentence(filled.wanted["objective.kind"], t) if _whole(filled) and not in_list else ""
    said = tag("span", t(key, name=name, why=why))
    undo = tag("button", t("train.preset_undo"), type="button", cls="at-button at-small", data_order="undo:preset")
    return tag("p", said, " ", undo, cls="at-preset-taken")
