"""The search over all settings: what a person may type for each, in both languages. The browser does the rest."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from app import form
from app.choosers import objective_name, tuner_name
from app.form import Setting, settings
from app.language import LANGUAGES, Text, text
from app.render import Html, tag
from engine.objectives import OBJECTIVES
from engine.tuners import TUNERS

ENTRIES: Mapping[str, tuple[Iterable[str], Callable[[str, Text], str]]] = {
    "objective": (OBJECTIVES, objective_name),
    "tuner": (TUNERS, tuner_name),
}
"""The catalogues whose settings stand in the form only with their choice, and how an entry is called."""
CHOOSERS = {"objective.kind": "objective", "method": "tuner"}


def box(t: Text) -> Html:
    """Return the search box with all that it looks through; see assets/form.js."""
    field = tag(
        "input",
        type="search",
        id="at-search",
        placeholder=t("train.search"),
        aria_label=t("train.search"),
        autocomplete="off",
        spellcheck="false",
        aria_describedby="at-search-said",
        data_settings=json.dumps(index(t.language), ensure_ascii=False, separators=(",", ":")),
        data_word_found=t("train.search_found"),
        data_word_none=t("train.search_none"),
        data_word_elsewhere=t("train.search_elsewhere"),
        data_word_choose=t("train.search_choose"),
        data_word_unfit=t("train.search_unfit"),
    )
    said = tag("span", id="at-search-said", cls="at-soft at-small", role="status", aria_live="polite")
    elsewhere = tag("ul", id="at-search-elsewhere", hidden=True)
    return tag("div", tag("div", field, said, cls="at-search"), elsewhere, role="search")


def index(language: str) -> list[dict[str, Any]]:
    """Return for each setting its id in the page, its words, and where one belongs that has to be chosen first."""
    t = text(language)
    return [*_choosers(), *(_entry(one, t) for one in settings().values())]


def _choosers() -> Iterator[dict[str, Any]]:
    for path, section in CHOOSERS.items():
        catalogue, name_of = ENTRIES[section]
        words = [path, *(f"{kind} {name_of(kind, t)}" for kind in catalogue for t in _languages())]
        words += [t(f"field.{path}.{part}") for t in _languages() for part in ("label", "help")]
        yield {"id": form.element_id(path), "words": _plain(words)}


def _entry(one: Setting, t: Text) -> dict[str, Any]:
    words = [one.path, one.path.replace("_", " ").replace(".", " ")]
    for other in _languages():
        words += [one.name(other), other.get(f"field.{one.path}.help", one.help)]
        words += [form.choice_name(one.path, value, other) for value in one.choices]
    found: dict[str, Any] = {"id": form.element_id(one.path), "words": _plain(words)}
    if one.section is not None:
        section, _, kind = one.section.partition(".")
        found |= {"label": one.name(t), "of": ENTRIES[section][1](kind, t)}
        found["order"] = f"choose:{section}.kind:{kind}"
    return found


def _languages() -> list[Text]:
    return [text(language) for language in LANGUAGES]


def _plain(words: list[str]) -> str:
    return " ".join(dict.fromkeys(words)).lower()
