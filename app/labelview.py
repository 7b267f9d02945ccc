"""What a classification run came to: the trained head beside labels without training, and which labels it confuses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from app.language import Text
from app.measure import number, percent, plain
from app.render import Html, card, note, table, tag
from storage.jobs import Job

WITHOUT = ("random_projection", "class_means", "most_frequent")
Found = Mapping[str, Any]


def found_in(job: Job) -> Found | None:
    """Return what was measured at the end of a run; None for one that was not, or has no labels."""
    return (job.result or {}).get("classification") or None


def html(t: Text, found: Found) -> Html:
    """Return the figures, what they say, and the confusions."""
    figures = table([t("labels.way"), t("chart.accuracy.title"), t("chart.macro_f1.title")], _figures(t, found))
    said = tag("p", *_said(t, found), cls="at-soft at-small")
    parts = [card(figures, said, title=t("labels.title")), *_verdict(t, found)]
    return tag("div", *parts, card(_confusion(t, found["confusion"]), title=t("labels.confusion")), cls="at-stack")


def _figures(t: Text, found: Found) -> Iterator[list[object]]:
    measured = [("trained", found["trained"]), *((way, found["baseline"].get(way)) for way in WITHOUT)]
    for way, one in measured:
        if one:
            yield [t(f"labels.way.{way}"), percent(one["accuracy"]), percent(one["macro_f1"])]


def _said(t: Text, found: Found) -> Iterator[str]:
    yield t(f"labels.origin.{found['origin']}", n=number(found["rows"]), step=number(found["step"]))
    if found["baseline"]:
        rows, seconds = number(found["baseline"]["rows"]), plain(found["baseline"]["seconds"])
        yield " " + t("labels.without", rows=rows, seconds=seconds)
    if found["unknown"]:
        yield " " + t("labels.unknown", n=number(found["unknown"]))


def _verdict(t: Text, found: Found) -> list[Html]:
    """Say it where training was not worth it."""
    ways = [way for way in WITHOUT if way in found["baseline"]]
    best = max(ways, key=lambda way: float(found["baseline"][way]["accuracy"]), default=None)
    if best is None or found["baseline"][best]["accuracy"] < found["trained"]["accuracy"]:
        return []
    share = {"without": found["baseline"][best]["accuracy"], "trained": found["trained"]["accuracy"]}
    values = {name: percent(value) for name, value in share.items()}
    return [note(t("labels.not_worth_it"), t("labels.not_worth_it_text", way=t(f"labels.way.{best}"), **values))]


def _confusion(t: Text, found: Found) -> Html:
    names = [*found["labels"], *([t("labels.others")] if found["others"] else [])]
    rows = [[name, *map(number, counts)] for name, counts in zip(names, found["counts"], strict=True)]
    return table([t("labels.true_or_said"), *names], rows)
