"""The tabs of a run: what happened, its checkpoints, its answers, and its settings beside those of another run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy.orm import Session

from app import labelview
from app.joblog import sentence, tail
from app.language import Text
from app.measure import number, size, when
from app.recipe import as_yaml
from app.render import Html, button_link, card, chip, code, empty, events, log, table, tag
from app.ui import Ui
from storage import checkpoints, jobs
from storage.jobs import Event, Job

MOST_LINES = 200
LANGUAGE = "language"
TONES = {"failed": "bad", "succeeded": "good"}


def happened(ui: Ui, session: Session, job: Job, now: float) -> Html:
    """Return the log: events as sentences, then the last lines that the processes printed."""
    items = [(when(ui.t, one.at, now), sentence(ui.t, one), _tone(one)) for one in jobs.events(session, job.id)]
    lines = tail(ui.home.log(job.id), lines=MOST_LINES)
    printed = card(log(lines), title=ui.t("runs.printed")) if lines else ""
    return tag("div", card(events(reversed(items)), title=ui.t("runs.events")), printed, cls="at-stack")


def _tone(event: Event) -> str:
    return TONES.get(str(event.data.get("state")), "plain")


def saved(t: Text, session: Session, job: Job, now: float) -> Html:
    """Return the checkpoints, newest first."""
    found = checkpoints.listing(session, job.id)
    if not found:
        return empty(t("runs.no_checkpoints"), t("runs.no_checkpoints_text"))
    best = checkpoints.best(session, job.id)
    mixed = len({one.is_adapter for one in found}) > 1
    head = [t("runs.column.step"), t("runs.eval_loss"), t("runs.column.size"), t("runs.column.saved"), ""]
    rows = []
    for one in reversed(found):
        target = f"{job.id}@{one.step}"
        marks = [chip(t("runs.best"), "good")] if best is not None and best.id == one.id else []
        marks += [chip(t("runs.all_weights"))] if mixed and not one.is_adapter else []
        ways = _ways(t, target, one.head)
        step = tag("span", number(one.step), *(part for mark in marks for part in (" ", mark)))
        rows.append([step, number(one.eval_loss), size(one.bytes), when(t, one.created_at, now), ways])
    return card(table(head, rows))


def _ways(t: Text, target: str, head: str) -> Html:
    chat = button_link(t("page.chat"), f"/chat?target={target}", small=True) if head == LANGUAGE else ""
    return tag("span", chat, " ", button_link(t("page.export"), f"/export?target={target}", small=True))


def answers(t: Text, job: Job) -> Html:
    """Return the answers of base and tuned model to held-out rows, side by side; of labels how often they are right."""
    if (labels := labelview.found_in(job)) is not None:
        return labelview.html(t, labels)
    found = (job.result or {}).get("answers") or []
    if not found:
        return empty(t("runs.no_answers"), t("runs.no_answers_text"))
    return tag("div", *(_answer(t, place, one) for place, one in enumerate(found, 1)), cls="at-stack")


def _answer(t: Text, place: int, one: Mapping[str, Any]) -> Html:
    expected = str(one.get("expected", ""))
    parts = [
        _said(t(f"runs.answer.{name}"), str(one.get(name, "")), expected, name)
        for name in ("expected", "base", "tuned")
    ]
    prompt = tag("div", one.get("prompt", ""), cls="at-question")
    return card(prompt, tag("div", *parts, cls="at-pair"), title=t("runs.answer.row", n=place))


def _said(title: str, text: str, expected: str, name: str) -> Html:
    same = name != "expected" and text.strip() == expected.strip()
    return tag("div", tag("h3", title), tag("pre", text or "–"), cls="at-same" if same else None)


def settings(t: Text, job: Job, others: Sequence[Job]) -> Html:
    """Return the run's spec as YAML, and above it what is different in the overlaid runs."""
    copied = tag("button", t("runs.copy"), type="button", cls="at-button at-small", data_copy="#at-yaml code")
    whole = card(tag("div", code(as_yaml(job.spec)), id="at-yaml"), title=t("runs.spec"), aside=copied)
    return tag("div", *(_difference(t, job, other) for other in others), whole, cls="at-stack")


def _difference(t: Text, job: Job, other: Job) -> Html:
    rows = [(path, _shown(here), _shown(there)) for path, here, there in differences(job.spec, other.spec)]
    title = t("runs.difference", name=other.name)
    body = table([t("runs.column.setting"), job.name, other.name], rows) if rows else tag("p", t("runs.no_difference"))
    return card(body, title=title)


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Return the settings in which two specs differ, by their path; the name is not one of them."""
    here, there = dict(_flat(one)), dict(_flat(other))
    paths = [*here, *(path for path in there if path not in here)]
    return [
        (path, here.get(path), there.get(path))
        for path in paths
        if path != "name" and here.get(path) != there.get(path)
    ]


def _flat(spec: Mapping[str, Any], at: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in spec.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{at}{key}.")
        else:
            yield f"{at}{key}", value


def _shown(value: Any) -> str:
    return "–" if value is None else str(value)
