"""What the Models page shows: the list, a model's facts, and models on their way in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import urlencode

from app.form import label_of
from app.language import Text
from app.measure import number, short, size
from app.render import Html, bar, card, chip, facts, join, key_values, link, problems, tag
from app.tones import TONES
from app.ui import Ui
from engine.specs.problem import Problem
from storage.jobs import Job
from storage.models import Model
from storage.states import State

MEBIBYTE = 2**20
SHOWN_FACTS = ("architecture", "num_layers", "hidden_size", "context_length", "vocab_size", "dtype", "end_of_turn")


def address(name: str) -> str:
    """Return the address of a model."""
    return f"/models?{urlencode({'model': name})}"


def listing(found: Iterable[Model], current: str | None, t: Text) -> Html:
    """Return the models, the chosen one marked."""
    return tag("div", *(_entry(one, one.name == current, t) for one in found), cls="at-runs")


def _entry(one: Model, current: bool, t: Text) -> Html:
    line = tag("span", tag("strong", one.name), chip(_source(one, t)), cls="at-run-line")
    about = t(
        "models.entry",
        parameters=short(one.parameters or 0),
        size=size(one.bytes),
        licence=one.licence or t("models.no_licence"),
    )
    inner = join([line, tag("span", about, cls="at-soft")])
    return link(inner, address(one.name), cls="at-run", data_select=one.name, aria_current="true" if current else None)


def _source(one: Model, t: Text) -> str:
    return t.get(f"models.source.{one.source}", one.source)


def detail(one: Model, num_runs: int, t: Text) -> Html:
    """Return what a model is, and where it comes from."""
    figures = [
        (t("models.parameters"), short(one.parameters or 0)),
        (t("models.size"), size(one.bytes)),
        (t("models.licence"), one.licence or t("models.no_licence")),
        (t("models.runs"), number(num_runs)),
    ]
    lines = [*_origin(one, t), *_facts(one, t)]
    return card(facts(figures), key_values(lines), title=one.name, aside=chip(_source(one, t)))


def _origin(one: Model, t: Text) -> Iterator[tuple[object, object]]:
    yield t("models.from"), t.get(f"models.from.{one.source}", one.source)
    location = one.facts.get("hub_id") or one.facts.get("location")
    if location:
        yield t("models.location"), tag("code", location)
    if one.facts.get("revision"):
        yield label_of("model.revision", t), tag("code", one.facts["revision"])


def _facts(one: Model, t: Text) -> Iterator[tuple[object, object]]:
    for name in SHOWN_FACTS:
        value = one.facts.get(name)
        if value is not None:
            yield t(f"models.{name}"), number(value) if isinstance(value, int) else tag("code", value)
    yield t("models.template"), t("models.has_template" if one.facts.get("has_chat_template") else "models.no_template")


def arrivals(found: Iterable[Job], ui: Ui) -> Html:
    """Return the models that are being added, or were not."""
    cards = [_arrival(job, ui) for job in found]
    return tag("div", *cards, cls="at-stack") if cards else Html("")


def _arrival(job: Job, ui: Ui) -> Html:
    body = BODIES.get(job.state, _ended)(job, ui)
    return card(body, title=job.name, aside=chip(ui.t(f"import.{job.state}"), TONES[job.state]), tone=TONES[job.state])


def _moving(job: Job, ui: Ui) -> Html:
    t = ui.t
    phase = t.either(f"phase.{job.phase}", "models.waits" if job.state == State.QUEUED else "models.works")
    done, total = job.progress_step, job.progress_total
    share = done / total if done is not None and total else None
    bytes_ = (
        t("models.bytes", done=size(done * MEBIBYTE), total=size(total * MEBIBYTE))
        if done is not None and total
        else ""
    )
    return join(
        [
            bar(share, label=job.name),
            tag("p", join([part for part in (phase, bytes_) if part], " · "), cls="at-soft at-small"),
        ]
    )


def _added(job: Job, ui: Ui) -> Html:
    name = str((job.result or {}).get("name") or job.name)
    return tag("p", link(ui.t("models.open", name=name), address(name), data_select=name))


def _failed(job: Job, ui: Ui) -> Html:
    raw: Any = job.values.get("problems")
    found = [Problem.from_dict(item) for item in raw] if isinstance(raw, list) else []
    return problems(found, ui.t) if found else tag("p", ui.reason(job.reason, job.values))


def _ended(_job: Job, ui: Ui) -> Html:
    return tag("p", ui.t("models.not_added"), cls="at-soft")


BODIES = {State.QUEUED: _moving, State.RUNNING: _moving, State.SUCCEEDED: _added, State.FAILED: _failed}
