"""The card of a failed job: its kind, why, the last lines that were printed, and a button for the remedy."""

from __future__ import annotations

from collections.abc import Sequence

from app import failure
from app.failure import Remedy
from app.form import named
from app.joblog import tail
from app.measure import readable
from app.render import Html, button_link, card, chip, log, problems, tag
from app.ui import Ui
from engine.specs.problem import Problem
from storage.jobs import Attempt, Job

LAST_LINES = 12


def failed(ui: Ui, job: Job, attempts: Sequence[Attempt], *, title: object = "") -> Html:
    """Return the card. With a title it is one of several: its lines are folded and no button stands out."""
    t, values = ui.t, readable(job.values)
    listed = [named(Problem.from_dict(item), t) for item in job.values.get("problems", ())]
    told = [one.code for one in listed[:1]] == [job.reason]  # the list says it, with the field and the fix
    sentences = ["" if told else ui.reason(job.reason, values), ui.t.remedy(job.reason, values)]
    said = tag("p", " ".join(filter(None, sentences))) if any(sentences) else ""
    lines = tail(ui.home.log(job.id), lines=LAST_LINES)
    alone = not title
    kept = {"data_keep": f"lines-{job.id}", "open": alone}
    printed = tag("details", tag("summary", t("failure.lines")), log(lines), cls="at-lines", **kept) if lines else ""
    buttons = actions(ui, job, attempts, primary=alone)
    body = tag("div", said, problems(listed, t) if listed else "", buttons, printed, cls="at-stack")
    category = chip(t(f"failure.{failure.category_of(job.reason)}"), "bad")
    return card(body, title=title or t("runs.failed"), aside=category, tone="bad")


def actions(ui: Ui, job: Job, attempts: Sequence[Attempt], *, primary: bool) -> Html:
    """Return the buttons of the remedies; the first is the one to take."""
    found = failure.remedies(job, attempts)
    buttons = [_button(ui, job, one, is_first=primary and place == 0) for place, one in enumerate(found)]
    return tag("p", *buttons, cls="at-choices") if buttons else Html("")


def _button(ui: Ui, job: Job, remedy: Remedy, *, is_first: bool) -> Html:
    label = ui.t(f"remedy.{remedy.name}")
    if remedy.href is not None:
        return button_link(label, remedy.href, primary=is_first)
    names = "at-button at-primary" if is_first else "at-button"
    return tag("button", label, type="button", cls=names, data_order=f"remedy:{job.id}:{remedy.name}")


def overrides(ui: Ui, attempts: Sequence[Attempt]) -> str:
    """Return what the last attempt did otherwise than the spec; an empty text where it kept to it."""
    last = attempts[-1].overrides if attempts else None
    if not last:
        return ""
    batch, passes = last.get("batch_size", "–"), last.get("gradient_accumulation", "–")
    return ui.t("failure.halved", attempt=attempts[-1].attempt, batch=batch, passes=passes)
