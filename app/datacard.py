"""What the Data page shows of a dataset: the list, the head, its rows, its problems and its versions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from app import downloads
from app.language import Text
from app.measure import number, size, when
from app.render import (
    Html,
    button_link,
    card,
    chip,
    code,
    facts,
    join,
    link,
    note,
    safe,
    table,
    tag,
    transcript,
)
from app.rows import Row
from engine.specs.problem import Problem
from engine.specs.recipes import DRAFTED_FROM
from storage.datasets import Version

VIEWS = ("rows", "tokens", "figures", "check", "problems", "tasks", "mix", "versions", "files")
PAGE_ROWS = 5
SIDES = ("chosen", "rejected")


def address(**query: Any) -> str:
    """Return the address of a view of the page."""
    return f"/data?{urlencode({key: value for key, value in query.items() if value is not None})}"


def goto(label: object, *, cls: str | None = None, current: bool = False, **query: Any) -> Html:
    """Return a link that changes the selection without loading the page anew."""
    href = address(**query)
    return link(label, href, cls=cls, data_select=href.partition("?")[2], aria_current="true" if current else None)


def goto_page(label: object, name: str) -> Html:
    """Return a link to a dataset from another page."""
    return link(label, address(dataset=name))


def at(one: Version) -> dict[str, Any]:
    """Return the part of an address that names a version."""
    return {"dataset": one.name, "version": one.version}


def listing(versions: Iterable[Version], current: str | None, t: Text) -> Html:
    """Return the datasets, the chosen one marked."""
    return tag("div", *(_entry(one, one.name == current, t) for one in versions), cls="at-runs")


def _entry(one: Version, current: bool, t: Text) -> Html:
    kind = chip(t(f"row_kind.{one.row_kind}"))
    line = tag("span", tag("strong", one.name), kind, cls="at-run-line")
    about = t("data.entry", version=one.version, rows=number(one.usable_rows))
    return goto(join([line, tag("span", about, cls="at-soft")]), cls="at-run", current=current, dataset=one.name)


def head(one: Version, view: str, t: Text) -> Html:
    """Return what a dataset is: figures, what to know about it, and the way to its views."""
    counts: list[tuple[object, object]] = [
        (t("data.rows"), number(one.rows)),
        (t("data.usable"), number(one.usable_rows)),
    ]
    held_out = one.statistics.get("splits", {}).get("test")
    if held_out:
        counts.append((t("data.held_out"), number(held_out)))
    if one.statistics.get("duplicates") is not None:
        counts.append((t("data.duplicates"), number(one.statistics["duplicates"])))
    counts.append((t("data.problems"), number(one.problem_count)))
    train = button_link(t("data.train"), f"/train?{urlencode({'dataset': one.name})}", primary=True)
    about = t("data.about", version=one.version, source=one.source_name, size=size(one.bytes))
    words = dict.fromkeys((t(f"format.{one.format}"), t(f"row_kind.{one.row_kind}")))
    chips = join((chip(word) for word in words), " ")
    make = button_link(t("data.make"), f"/make?{urlencode({'dataset': one.name})}")
    ways = [make, train] if one.row_kind in DRAFTED_FROM else [train]
    top = tag("div", facts(counts), tag("div", *ways, cls="at-choices"), cls="at-head-line")
    first = card(tag("p", about, cls="at-soft at-small at-under"), top, title=one.name, aside=chips)
    return join([first, _warnings(one, t), _views(one, view, t)])


def _warnings(one: Version, t: Text) -> Html:
    found = [t.told(Problem.from_dict(item)) for item in one.warnings]
    return tag("div", *(note("", said, tone="waiting") for said in found), cls="at-stack") if found else Html("")


def _views(one: Version, view: str, t: Text) -> Html:
    shown = [name for name in VIEWS if name != "problems" or one.problem_count]
    links = (goto(t(f"data.view.{name}"), current=name == view, **at(one), view=name) for name in shown)
    return tag("nav", *links, cls="at-tabs", aria_label=t("data.views"))


def rows(one: Version, found: Sequence[Row], start: int, t: Text) -> Html:
    """Return a page of rows, each with the way to its tokens."""
    cards = (_row(one, row, start + place, t) for place, row in enumerate(found))
    return tag("div", *cards, pager(one, start, PAGE_ROWS, t, view="rows"), cls="at-stack")


def _row(one: Version, row: Row, place: int, t: Text) -> Html:
    see = goto(t("data.see_tokens"), **at(one), view="tokens", row=place + 1)
    held_out = chip(t("data.held_out_row")) if row.get("split") == "test" else ""
    task = chip(row["task_type"]) if row.get("task_type") else ""
    aside = join([_verdict(row, t), task, held_out, see], " ")
    return card(_text_of(row, t), title=t("data.row", n=number(place + 1)), aside=aside)


def _text_of(row: Row, t: Text) -> Html:
    if "text" in row:
        return transcript([{"role": "", "content": row["text"]}], t)
    if "messages" in row:
        return join([_tools(row, t), transcript(row["messages"], t)])
    if "completion" in row:
        return transcript([*row["prompt"], *row["completion"]], t)
    sides = (
        tag("div", tag("h3", t(f"data.{side}")), transcript(row[side], t), cls=f"at-side at-{side}") for side in SIDES
    )
    return join([transcript(row["prompt"], t), tag("div", *sides, cls="at-pair")])


def _tools(row: Row, t: Text) -> Html:
    if not row.get("tools"):
        return Html("")
    return tag("details", tag("summary", t("data.tools")), code(row["tools"]), cls="at-small")


def _verdict(row: Row, t: Text) -> Html:
    """Return how an answer was judged."""
    if row.get("label") is not None:
        return chip(t(f"data.label.{str(row['label']).lower()}"), "good" if row["label"] else "bad")
    return chip(t("data.score", n=number(row["score"]))) if row.get("score") is not None else Html("")


def pager(one: Version, start: int, step: int, t: Text, *, view: str) -> Html:
    """Return the links to the first, previous, next and last rows."""
    total = one.usable_rows
    end = min(total, start + step)
    here = (
        t("data.row_of", n=number(end), total=number(total))
        if step == 1
        else t("data.rows_of", first=number(start + 1), last=number(end), total=number(total))
    )
    return turning(Pages(start, step, total), lambda place: {**at(one), "view": view, "row": place + 1}, here, t)


@dataclass(frozen=True, slots=True)
class Pages:
    """Where one is in what is shown a few at a time."""

    start: int
    step: int
    total: int


def turning(pages: Pages, query: Callable[[int], dict[str, Any]], here: str, t: Text) -> Html:
    """Return the links to the first, previous, next and last of something; `query` is the address of a place."""
    start, step = pages.start, pages.step
    last = max(0, (pages.total - 1) // step * step)
    places = (("first", 0), ("previous", max(0, start - step)), ("next", min(last, start + step)), ("last", last))
    links = [_turn_to(t(f"data.{name}"), query(place) if place != start else None) for name, place in places]
    return tag(
        "nav", *links[:2], tag("span", here, cls="at-soft"), *links[2:], cls="at-pager", aria_label=t("data.pages")
    )


def _turn_to(label: str, query: dict[str, Any] | None) -> Html:
    if query is None:
        return tag("span", label, cls="at-button at-small at-off", aria_disabled="true")
    return goto(label, cls="at-button at-small", **query)


def problem_table(found: Iterable[Problem], count: int, t: Text) -> Html:
    """Return what is wrong, line by line: where, what, and how to fix it."""
    listed = list(found)
    of_files = any(one.file for one in listed)
    lines = (
        (*([one.file or ""] if of_files else []), _line(one), one.where.field or "", *t.problem(one)) for one in listed
    )
    head_ = [*([t("data.file")] if of_files else []), t("data.line"), t("data.field"), t("data.what"), t("data.fix")]
    more = (
        tag("p", t("data.more_problems", n=number(count), shown=number(len(listed))), cls="at-soft")
        if count > len(listed)
        else ""
    )
    return join([tag("div", table(head_, lines), cls="at-whole-words"), more])


def _line(one: Problem) -> Html:
    return safe(one.where.line if one.where.line is not None else "")


def problems(one: Version, t: Text) -> Html:
    """Return the problems of a version."""
    found = [Problem.from_dict(item) for item in one.problems]
    title = t("data.problem_rows", n=number(one.problem_count))
    whole = link(t("data.all_problems"), downloads.problems_address(one.id), download=True)
    parts = [_kinds(one, found, t), problem_table(found, one.problem_count, t)]
    return tag("div", card(*parts, title=title, aside=whole), cls="at-stack")


def _kinds(one: Version, found: Sequence[Problem], t: Text) -> Html:
    """Return the kinds of problems with their counts, the commonest first."""
    known = one.statistics.get("problem_kinds") or {}
    if len(known) < 2:
        return Html("")
    example = {each.code: each for each in reversed(found)}
    rows = [[t.problem(example[code])[0] if code in example else code, number(count)] for code, count in known.items()]
    return table([t("data.kind"), t("data.count")], rows, caption=t("data.kinds"))


def _origin(one: Version, t: Text) -> str:
    """Return the file that a version came from, or what was made of which versions."""
    if one.made_from is None:
        return one.source_name
    parents = ", ".join(f"{parent['name']} {parent['version']}" for parent in one.made_from["parents"])
    return t("data.made_from", operation=t(f"operation.{one.made_from['operation']}"), parents=parents)


def versions(one: Version, found: Iterable[Version], now: float, t: Text) -> Html:
    """Return the versions of a dataset, the newest first, the one that is shown marked."""
    head_ = [t("data.version"), t("data.usable"), t("data.from"), t("data.when"), ""]
    rows_ = [
        [
            number(each.version),
            number(each.usable_rows),
            _origin(each, t),
            when(t, each.created_at, now),
            t("data.shown") if each.id == one.id else goto(t("data.show"), dataset=each.name, version=each.version),
        ]
        for each in found
    ]
    return card(table(head_, rows_), title=t("data.versions"))
