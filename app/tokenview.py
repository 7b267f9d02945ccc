"""The token view of a dataset: a row as the model sees it, or a packed sequence with the borders of its rows."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from app import asking, datacard
from app.form import named
from app.language import Text
from app.measure import number
from app.render import Html, TokenLabels, card, code, columns, empty, note, problems, tag, tokens
from app.tokenform import Chosen
from app.ui import Ui
from engine.specs.base import validate
from engine.specs.job import DataPart
from engine.specs.problem import Problem, ProblemError, problem
from storage.datasets import Version

ANSWER_WITHIN_S = 0.35
MOST_PACKED = 20_000
"""Of larger datasets no packed sequence is shown: all their rows would be turned into tokens for it."""
CONTROL = re.compile(r"<\|?[^<>|\s]+\|?>")
"""A whole token of this shape is a control token: the same characters in a row's text are cut into several tokens."""
Answer = Mapping[str, Any]
Shown = tuple[Html, int | None]
"""The view, and the question that is still open."""


def row(ui: Ui, one: Version, place: int, chosen: Chosen, pending: int | None) -> Shown:
    """Return a row as the model sees it; `chosen` fits the version."""
    if (missing := _missing(ui, chosen)) is not None:
        return missing, None
    wanted = {"dataset": one.name, "max_length": chosen.length, "truncation": chosen.truncation}
    try:
        validate(DataPart, wanted, at="data")
    except ProblemError as error:
        return _refused(error.problems, ui.t), None
    if pending is None:
        pending = asking.ask(ui.store, "tokens", chosen.question(one, row=place))
    pager = datacard.pager(one, place, 1, ui.t, view="tokens")
    return _answered(ui, pending, lambda answer: row_tokens(one, place, answer, ui.t), head=pager)


def packed(ui: Ui, one: Version, place: int, chosen: Chosen, pending: int | None) -> Shown:
    """Return one of the sequences that a run would pack the rows into; `chosen` fits the version."""
    if (missing := _missing(ui, chosen)) is not None:
        return missing, None
    if one.usable_rows > MOST_PACKED:
        return note("", ui.t("data.too_many_to_pack", n=number(MOST_PACKED)), tone="waiting"), None
    try:
        spec = chosen.spec(one)
    except ProblemError as error:
        return _refused(error.problems, ui.t), None
    if pending is None:
        pending = asking.ask(ui.store, "packed", {"spec": spec.model_dump(mode="json"), "index": place})
    first = datacard.goto(ui.t("data.first_sequence"), cls="at-button at-small", **datacard.at(one), view="tokens")
    return _answered(ui, pending, lambda answer: packed_tokens(one, answer, ui.t), head=first if place else Html(""))


def _missing(ui: Ui, chosen: Chosen) -> Html | None:
    """What has to be there before anything can be asked."""
    if chosen.model is None:
        return empty(ui.t("data.no_model_title"), ui.t("data.no_model"))
    return None if asking.worker_lives(ui.store) else note("", ui.t("data.no_worker"), tone="waiting")


def _answered(ui: Ui, pending: int, draw: Callable[[Answer], Html], *, head: Html) -> Shown:
    """The answer to a question, what is wrong with it, or that it is still open; `head` leads elsewhere."""
    answer = asking.wait(ui.store, pending, within_s=ANSWER_WITHIN_S)
    if answer.is_open:
        return card(tag("p", ui.t("data.reading"), cls="at-soft")), pending
    if answer.data is None:
        return tag("div", head, _refused(answer.problems or (problem("plan_lost"),), ui.t), cls="at-stack"), None
    return draw(answer.data), None


def _refused(found: Iterable[Problem], t: Text) -> Html:
    return card(problems((named(each, t) for each in found), t))


def row_tokens(one: Version, place: int, answer: Answer, t: Text) -> Html:
    """Return a row as the model sees it: each sequence with its tokens coloured."""
    sequences = answer.get("sequences", ())
    head = datacard.pager(one, place, 1, t, view="tokens")
    of_several = "data.part_of" if answer.get("split") and not answer.get("rewritten") else "data.sequence_of"
    cards = []
    for number_, each in enumerate(sequences, 1):
        which = t(of_several, n=number_, total=len(sequences)) if len(sequences) > 1 else ""
        side = t(f"data.{each['name']}") if each.get("name") in datacard.SIDES else ""
        label = t("data.label", label=each["label"]) if each.get("label") else ""
        title = (t("data.row_as_seen", n=number(place + 1)), side or which, label)
        cards.append(_sequence(each, " · ".join(part for part in title if part), t))
    shown = columns(*cards) if _are_sides(sequences) else tag("div", *cards, cls="at-stack")
    return tag("div", head, _template(answer, t), *_notes(answer, t), shown, cls="at-stack")


def _notes(answer: Answer, t: Text) -> Iterator[Html]:
    """What became of the row, in words."""
    if answer.get("left_out"):
        yield note("", t(f"data.left_out.{answer['left_out']}"), tone="waiting")
    for key in ("rewritten", "split"):
        if answer.get(key):
            yield note("", t(f"data.is_{key}", n=len(answer["sequences"])), tone="plain")


def _are_sides(sequences: Iterable[Answer]) -> bool:
    """Whether they are the two answers of a pair."""
    return [each.get("name") for each in sequences] == list(datacard.SIDES)


def _template(answer: Answer, t: Text) -> Html:
    """Which chat template wrote the row, and the text of one of ours."""
    name = answer.get("template")
    if name is None:
        return Html("")
    if name == "model":
        return tag("p", t("data.template_own"), cls="at-soft at-small")
    called = t(f"choice.model.chat_template.{name}")
    said = t("data.template_added" if answer.get("added") else "data.template_chosen", template=called)
    shown = tag("details", tag("summary", said), code(str(answer.get("template_text") or "")), data_keep="template")
    return tag("div", shown, cls="at-soft at-small")


def _sequence(each: Answer, title: str, t: Text) -> Html:
    counts = t("data.token_counts", **{key: number(each[key]) for key in ("num_tokens", "num_trained", "num_cut")})
    return card(tokens({"tokens": list(_marked(each))}, TokenLabels.of(t)), title=title, aside=counts)


def _marked(each: Answer) -> Iterator[dict[str, Any]]:
    """The tokens of a sequence, as they are drawn."""
    for one in each["tokens"]:
        yield {**one, "cut": one.get("state") == "cut", "special": CONTROL.fullmatch(one["text"])}


def packed_tokens(one: Version, answer: Answer, t: Text) -> Html:
    """Return a packed sequence: where each of its rows begins is marked."""
    borders = {
        each["start"]: t("data.packed_row", n=place, total=len(answer["rows"]), tokens=number(each["num_tokens"]))
        for place, each in enumerate(answer["rows"], 1)
    }
    drawn = [{**token, "begins": borders.get(place)} for place, token in enumerate(_marked(answer))]
    index, total = int(answer["index"]), int(answer["sequences"])
    title = t("data.packed_sequence", n=number(index + 1))
    counts = t("data.packed_counts", **{key: number(answer[key]) for key in ("num_tokens", "num_trained")})
    shown = card(tokens({"tokens": drawn}, TokenLabels.of(t)), title=title, aside=counts)
    said = tag("p", t("data.packed", total=number(total)), cls="at-soft at-small")
    return tag("div", _turn(one, index, total, t), _template(answer, t), said, shown, cls="at-stack")


def _turn(one: Version, index: int, total: int, t: Text) -> Html:
    here = t("data.sequence_at", n=number(index + 1), total=number(total))
    return datacard.turning(
        datacard.Pages(index, 1, total),
        lambda place: {**datacard.at(one), "view": "tokens", "sequence": place + 1},
        here,
        t,
    )
