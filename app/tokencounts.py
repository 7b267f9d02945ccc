"""What is counted over all rows of a dataset with a model's tokenizer: lengths, and what a longest row would cut."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from app import asking, datafigures, tokenform
from app.language import Text
from app.measure import number, percent, short
from app.render import Html, card, columns, join, note, problems, tag
from app.tokenform import Chosen
from app.ui import Ui
from engine.specs.problem import problem
from storage.datasets import Version

LENGTHS = ("prompt_tokens", "answer_tokens")
Counted = Mapping[str, Any]
NOTHING = (Html(""), False)


def show(ui: Ui, one: Version, view: str, chosen: Chosen) -> tuple[Html, bool]:
    """Return what a view says of all rows, and whether they are still being counted. The same question is asked once,
    whoever looks."""
    if view not in VIEWS:
        return NOTHING
    chosen = tokenform.known(ui, one, chosen).chosen
    if chosen.model is None or not asking.worker_lives(ui.store):
        return NOTHING
    if not isinstance(chosen.length, int) or chosen.length < 1:
        return NOTHING
    answer = asking.look(ui.store, asking.ask_once(ui.store, "lengths", _question(one, view, chosen)))
    if answer.is_open:
        return VIEWS[view](None, one, ui.t), True
    if answer.data is None:
        return card(problems(answer.problems or (problem("plan_lost"),), ui.t)), False
    return VIEWS[view](answer.data, one, ui.t), False


def _question(one: Version, view: str, chosen: Chosen) -> dict[str, Any]:
    """Whether prompts are trained too changes no length, and a figure knows no longest row."""
    spec = chosen.objective_spec
    objective = spec and {key: value for key, value in spec.items() if key != "train_on_prompt"}
    asked = chosen.question(one, objective=objective)
    return asked if view == "tokens" else {**asked, "max_length": None, "truncation": "auto"}


def sentence(counted: Counted | None, one: Version, t: Text) -> Html:
    """Return what the longest row would do to the whole dataset, in one line."""
    if counted is None:
        return tag("p", t("data.counting"), cls="at-soft at-small", id="cut")
    cut = counted["cut"]
    said = tag("strong", _cut(cut, t)) if cut["affected"] else _cut(cut, t)
    line = tag("p", join([said, tag("span", _basis(counted, t), cls="at-soft")], " "), id="cut")
    return join([line, *_warnings(counted, one, t)])


def _cut(cut: Counted, t: Text) -> str:
    length, longest = number(cut["max_length"]), number(cut["longest"])
    if not cut["longer"]:
        return t("data.cut.none", length=length, longest=longest)
    counts = {"n": number(cut["affected"]), "total": number(cut["among"]), "length": length, "longest": longest}
    if not cut["affected"]:
        return t("data.cut.prompts", rows=number(cut["longer"]), length=length)
    share = percent(cut["affected"] / cut["among"])
    key = "answers" if cut["of"] == "answers" else cut["truncation"]
    return t(f"data.cut.{key}", share=share, **counts)


def _basis(counted: Counted, t: Text) -> str:
    key = "data.counted_all" if counted["counted"] == counted["rows"] else "data.counted_sample"
    return t(key, counted=number(counted["counted"]), rows=number(counted["rows"]))


def _warnings(counted: Counted, one: Version, t: Text) -> Iterator[Html]:
    if counted["refused"]:
        yield note("", t("data.rows_refused", n=number(counted["refused"])), tone="waiting")
    elif not counted["answers"] and one.row_kind != "text":
        yield note("", t("data.no_answer_trained"), tone="waiting")


def figures(counted: Counted | None, _one: Version, t: Text) -> Html:
    """Return how many tokens rows, prompts and answers have, as numbers and as pictures."""
    if counted is None:
        return card(tag("p", t("data.counting"), cls="at-soft"), title=t("data.token_figures"))
    names = [name for name in LENGTHS if name in counted] or ["row_tokens"]
    average = counted["total_tokens"] / max(1, counted["counted"] - counted["refused"])
    whole = t("data.tokens_about", n=short(average * counted["rows"])) if counted["rows"] > counted["counted"] else ""
    total = whole or t("data.tokens_all", n=number(counted["total_tokens"]))
    said = tag("p", join([total, tag("span", _basis(counted, t), cls="at-soft")], " "))
    lines = datafigures.spreads({name: counted[name] for name in dict.fromkeys(("row_tokens", *names))}, t)
    pictures = columns(*(tag("div", datafigures.lengths(name, counted[name], t)) for name in names))
    return tag("div", card(said, lines, title=t("data.token_figures")), pictures, cls="at-stack")


VIEWS: dict[str, Callable[[Counted | None, Version, Text], Html]] = {"tokens": sentence, "figures": figures}
