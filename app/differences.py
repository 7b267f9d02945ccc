"""What differs from the defaults: each changed setting with its default, its value, the reason and a way back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from app import form
from app.choosers import objective_name, tuner_name
from app.filling import Filled
from app.form import settings
from app.language import Text
from app.measure import plain
from app.reasons import sentence
from app.render import Html, card, tag

CHOSEN_ABOVE = ("data.dataset", "model.id", "model.start_from", "name")
"""Settings that stand at the top with components of their own: what they are is seen there."""
NAMES: dict[str, Callable[[str, Text], str]] = {"objective.kind": objective_name, "tuner.kind": tuner_name}


def changed(filled: Filled) -> list[str]:
    """Return the settings that differ from what they would be by themselves and that this run has."""
    return [path for path in filled.changed if path not in CHOSEN_ABOVE and filled.applies(path)]


def html(filled: Filled, t: Text) -> Html:
    """Return the list."""
    found = changed(filled)
    if not found:
        return card(tag("p", t("train.same_as_defaults"), cls="at-soft"), title=t("train.differs"))
    rows = tag("ul", *(_row(path, filled, t) for path in found), cls="at-diff")
    return card(rows, title=t("train.differs"), aside=str(len(found)))


def _row(path: str, filled: Filled, t: Text) -> Html:
    label = form.label_of(path, t)
    before, now = (value_of(path, values.get(path), t) for values in (filled.defaults, filled.values))
    values = tag("span", tag("s", before), " → ", tag("b", now), cls="at-values")
    back = tag(
        "button",
        "↺",
        type="button",
        cls="at-button at-small",
        data_order=f"back:{path}",
        title=t("train.put_back"),
        aria_label=t("train.put_back_one", label=label, value=before),
    )
    why = sentence(filled.wanted[path], t) if path in filled.wanted else ""
    about = tag("div", tag("strong", label), values, tag("small", why) if why else "")
    return tag("li", about, back)


def value_of(path: str, value: Any, t: Text) -> str:
    """Return a setting's value as a person reads it."""
    if isinstance(value, bool):
        return t("train.on" if value else "train.off")
    if isinstance(value, int | float):
        return plain(value)
    if not isinstance(value, str):
        return t("form.empty")
    if path in NAMES:
        return NAMES[path](value, t)
    one = settings().get(path)
    return form.choice_name(path, value, t) if one is not None and one.choices else value
