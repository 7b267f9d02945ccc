"""The figures of a dataset: how long its prompts and answers are, and what tasks it has, as pictures and as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from app.language import Text
from app.measure import number, short
from app.render import Html, card, columns, key_values, table, tag
from storage.datasets import Version

LENGTHS = ("prompt_characters", "answer_characters")
SPREADS = ("turns", *LENGTHS)
HEIGHT, STEP = 90, 14
MOST_TASKS = 30


def figures(one: Version, t: Text) -> Html:
    """Return the figures of a version."""
    known = one.statistics
    pictures = [_lengths(name, known[name], t) for name in LENGTHS if isinstance(known.get(name), Mapping)]
    side_by_side = columns(*(tag("div", picture) for picture in pictures)) if any(pictures) else ""
    shown = [_spreads(known, t), side_by_side, _tasks(known.get("task_types"), t)]
    return tag("div", *(part for part in shown if part), cls="at-stack")


def _spreads(known: Mapping[str, Any], t: Text) -> Html:
    lines = [
        (t(f"data.{name}"), t("data.spread", **{key: number(known[name][key]) for key in ("median", "p95", "max")}))
        for name in SPREADS
        if isinstance(known.get(name), Mapping)
    ]
    return card(key_values(lines), title=t("data.lengths")) if lines else Html("")


def _lengths(name: str, spread: Mapping[str, Any], t: Text) -> Html:
    bars = [bar for bar in spread.get("bars", []) if len(bar) == 3]
    if not bars or not any(count for _, _, count in bars):
        return Html("")
    rows = [[_range(low, high), number(count)] for low, high, count in bars if count]
    head = [t("data.characters"), t("data.count")]
    numbers = tag("details", tag("summary", t("data.as_table")), table(head, rows), cls="at-small")
    return card(histogram(bars, label=t(f"data.{name}")), numbers, title=t(f"data.{name}"))


def histogram(bars: Sequence[Sequence[int]], *, label: str) -> Html:
    """Return a bar for each `[first, last, count]`, with the ends of the range below."""
    most = max(count for _, _, count in bars)
    width = STEP * len(bars)
    drawn = []
    for place, (low, high, count) in enumerate(bars):
        height = max(1.5, (HEIGHT - 2) * count / most) if count else 0
        title = tag("title", f"{_range(low, high)}: {number(count)}")
        box = {"x": place * STEP + 1, "y": f"{HEIGHT - height:.1f}", "width": STEP - 2, "height": f"{height:.1f}"}
        drawn.append(tag("rect", title, rx=2, **box))
    svg = tag("svg", *drawn, viewBox=f"0 0 {width} {HEIGHT}", preserveAspectRatio="none", role="img", aria_label=label)
    ends = tag("div", tag("span", short(bars[0][0])), tag("span", short(bars[-1][1])), cls="at-ends")
    return tag("div", svg, ends, cls="at-histogram")


def _range(low: int, high: int) -> str:
    return number(low) if low == high else f"{number(low)}–{number(high)}"


def _tasks(tasks: Any, t: Text) -> Html:
    if not isinstance(tasks, Mapping) or not tasks:
        return Html("")
    whole = sum(tasks.values())
    ordered = sorted(tasks.items(), key=lambda item: -item[1])
    rows = [[name, number(count), f"{100 * count / whole:.0f} %"] for name, count in ordered[:MOST_TASKS]]
    return card(table([t("shape.role.task_type"), t("data.rows"), t("data.share")], rows), title=t("data.task_types"))
