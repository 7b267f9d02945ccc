"""The figures of a dataset in pictures and tables: lengths of prompts and answers, languages, task types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from app.language import Text
from app.measure import number, share, short
from app.render import Html, card, columns, key_values, table, tag
from storage.datasets import Version

LENGTHS = ("prompt_characters", "answer_characters")
SPREADS = ("turns", *LENGTHS)
HEIGHT, STEP = 90, 14
MOST_TASKS = 30


def figures(one: Version, t: Text) -> Html:
    """Return the figures of a version that need no model."""
    known = one.statistics
    pictures = [lengths(name, known[name], t) for name in LENGTHS if isinstance(known.get(name), Mapping)]
    side_by_side = columns(*(tag("div", picture) for picture in pictures)) if any(pictures) else ""
    counted = [part for part in (_languages(one, t), _tasks(known.get("task_types"), t)) if part]
    shared = columns(*(tag("div", part) for part in counted)) if counted else ""
    lines = spreads({name: known[name] for name in SPREADS if isinstance(known.get(name), Mapping)}, t)
    shown = [card(lines, title=t("data.lengths")) if lines else "", side_by_side, shared]
    return tag("div", *(part for part in shown if part), cls="at-stack")


def spreads(known: Mapping[str, Mapping[str, Any]], t: Text) -> Html:
    """Return median, 95th percentile and largest of each, by name."""
    lines = [
        (t(f"data.{name}"), t("data.spread", **{key: number(one[key]) for key in ("median", "p95", "max")}))
        for name, one in known.items()
    ]
    return key_values(lines) if lines else Html("")


def lengths(name: str, spread: Mapping[str, Any], t: Text) -> Html:
    """Return a histogram with its numbers; nothing where there are none."""
    bars = [bar for bar in spread.get("bars", []) if len(bar) == 3]
    if not bars or not any(count for _, _, count in bars):
        return Html("")
    rows = [[_range(low, high), number(count)] for low, high, count in bars if count]
    head = [t(f"data.{name.rpartition('_')[2]}"), t("data.count")]
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


def _languages(one: Version, t: Text) -> Html:
    """The languages of the rows, or of the sample that was judged."""
    known = one.statistics.get("languages") or {}
    counts, looked_at = known.get("counts") or {}, known.get("looked_at") or 0
    if not counts:
        return Html("")
    rows = [[t.get(f"language.{code}", code), number(count), share(count, looked_at)] for code, count in counts.items()]
    unclear = looked_at - sum(counts.values())
    if unclear:
        rows.append([t("data.language_unclear"), number(unclear), share(unclear, looked_at)])
    key = "data.judged_all" if looked_at >= one.usable_rows else "data.judged_sample"
    said = tag("p", t(key, counted=number(looked_at), rows=number(one.usable_rows)), cls="at-soft at-small")
    return card(said, table([t("data.language"), t("data.rows"), t("data.share")], rows), title=t("data.languages"))


def _tasks(tasks: Any, t: Text) -> Html:
    if not isinstance(tasks, Mapping) or not tasks:
        return Html("")
    whole = sum(tasks.values())
    ordered = sorted(tasks.items(), key=lambda item: -item[1])
    rows = [[name, number(count), share(count, whole)] for name, count in ordered[:MOST_TASKS]]
    return card(table([t("shape.role.task_type"), t("data.rows"), t("data.share")], rows), title=t("data.task_types"))
