"""The pieces of the page on which data is made: the list, progress and cost, what failed, one draft with its source."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from app import datacard, underway
from app.language import Text
from app.measure import duration, number
from app.render import Html, bar, button_link, card, chip, empty, facts, join, link, note, table, tag
from app.tones import TONES
from app.ui import Ui
from engine.specs.drafting import cost
from engine.specs.generators import GENERATORS
from engine.specs.problem import Problem
from storage.jobs import Job
from storage.proposals import Counts, Proposal
from storage.states import FINAL, State

PRICED = {kind for kind, spec in GENERATORS.items() if "price_in" in spec.model_fields}
MOST_FAILURES = 20
LONGEST_SHOWN = 200


def top(t: Text) -> Html:
    """Return the page's title beside the way to a new order."""
    title = tag("div", tag("h1", t("page.make")), button_link(t("make.new"), "/make", small=True), cls="at-chat-top")
    return join([title, tag("p", t("make.lead"), cls="at-soft")])


def listing(found: Sequence[Job], current: int | None, t: Text) -> Html:
    """Return the drafting jobs, the chosen one marked."""
    if not found:
        return tag("p", t("make.none_yet"), cls="at-soft at-small")
    return tag("div", *(_entry(one, one.id == current, t) for one in found), cls="at-runs")


def _entry(one: Job, is_current: bool, t: Text) -> Html:
    first = tag("span", tag("strong", one.name), _state(one, t), cls="at-run-line")
    said = " · ".join([t(f"make.recipe.{one.spec['recipe']['kind']}"), _model(one), t("make.number", id=one.id)])
    return link(
        join([first, tag("span", said, cls="at-soft")]),
        f"/make?job={one.id}",
        cls="at-run",
        data_select=str(one.id),
        aria_current="true" if is_current else None,
    )


def _state(one: Job, t: Text) -> Html:
    return chip(t(f"make.state.{one.state}"), TONES[one.state])


def _model(one: Job) -> str:
    told = one.spec["generator"]
    return str(told.get("model") or told.get("target"))


def nothing(t: Text) -> Html:
    """Return what stands here before there is anything to draft from."""
    return empty(
        t("make.empty.title"), t("make.empty.text"), button_link(t("make.empty.action"), "/data", primary=True)
    )


def detail(ui: Ui, job: Job, counts: Counts) -> Html:
    """Return how far a drafting job is and what it cost."""
    t = ui.t
    mark = tag("span", data_address=f"/make?job={job.id}", hidden=True)
    recipe = job.spec["recipe"]["kind"]
    title = f"{job.name} · {t(f'make.recipe.{recipe}')}"
    body = [_progress(ui, job), facts(_figures(job, counts, t)), _whole(job, t), _orders(job, counts, t)]
    head = card(tag("div", *body, cls="at-stack"), title=title, aside=_state(job, t))
    return join([mark, head])


def _progress(ui: Ui, job: Job) -> Html:
    t = ui.t
    if job.state == State.FAILED:
        found = [Problem.from_dict(one) for one in job.values.get("problems", [])]
        said = [t.problem(one) for one in found] or [
            (ui.reason(job.reason, job.values), t.remedy(job.reason, job.values))
        ]
        return note(t("make.failed"), join([tag("p", f"{what} {fix}") for what, fix in said]), tone="bad")
    if job.state in FINAL:
        return tag("p", ui.reason(job.reason, job.values), cls="at-soft") if job.reason != "done" else Html("")
    return tag("div", underway.moving(job, t.either(f"phase.{job.phase}", f"make.state.{job.state}")), cls="at-stack")


def _figures(job: Job, counts: Counts, t: Text) -> list[tuple[str, str, str]]:
    told = job.spec["generator"]
    price = cost(told, counts.tokens_in, counts.tokens_out)
    free = t("make.no_price" if told["kind"] in PRICED else "make.free")
    failures = t("make.num_failed", n=number(counts.failed)) if counts.failed else ""
    return [
        (t("make.requests"), number(counts.units), failures),
        (t("make.drafts"), number(counts.drafts), ""),
        (t("make.tokens_in"), number(counts.tokens_in), ""),
        (t("make.tokens_out"), number(counts.tokens_out), ""),
        (t("make.cost"), number(price) if cost(told, 1, 1) else free, ""),
    ]


def _whole(job: Job, t: Text) -> Html:
    """What all of the dataset would take, measured on what was asked."""
    said = job.result or {}
    asked, available = said.get("asked") or 0, said.get("available") or 0
    if job.state != State.SUCCEEDED or not asked or available <= said["requests"]:
        return Html("")
    share = available / asked
    told = {"asked": number(asked), "available": number(available), "time": duration(t, said["seconds"] * share)}
    cost = t("make.whole_cost", cost=number(said["cost"] / said["requests"] * available)) if said["cost"] else ""
    return tag("p", t("make.whole", **told), " ", cost, cls="at-soft")


def _orders(job: Job, counts: Counts, t: Text) -> Html:
    def button(verb: str, **more: Any) -> Html:
        return tag(
            "button", t(f"make.{verb}"), type="button", cls="at-button at-small", data_order=f"{verb}:{job.id}", **more
        )

    if job.state not in FINAL:
        return tag("p", button("cancel"))
    said = job.result or {}
    is_whole = job.state == State.SUCCEEDED and job.reason == "done"
    more = [] if is_whole and not counts.failed else [button("again")]
    if job.state == State.SUCCEEDED and said.get("available", 0) > said.get("requests", 0):
        more.append(button("all"))
    return tag("div", *more, button("delete", data_sure=t("make.delete_sure")), cls="at-choices")


def failures(failed: Sequence[Proposal], count: int, t: Text) -> Html:
    """Return the requests that gave no draft, and why."""
    if not failed:
        return Html("")
    rows = []
    for one in failed[:MOST_FAILURES]:
        what, fix = t.problem(Problem.from_dict(one.problem or {}))
        rows.append((str(one.source["row"] + 1), one.source["shown"][:LONGEST_SHOWN], f"{what} {fix}"))
    more = t("make.more_failed", n=number(count - len(rows))) if count > len(rows) else ""
    head = [t("make.row"), t("make.source"), t("make.what_failed")]
    return card(table(head, rows), tag("p", more, cls="at-soft at-small") if more else "", title=t("make.failures"))


def source(one: Proposal, t: Text) -> Html:
    """Return what a draft was made from."""
    edited = chip(t("make.edited"), "accent") if one.edited else ""
    title = t("make.from_row", row=number(one.source["row"] + 1))
    return card(tag("div", one.source["shown"], cls="at-draft-source", tabindex="0"), title=title, aside=edited)


def made(ui: Ui, job: Job) -> Html:
    """Return what became of making a dataset of what was kept."""
    t = ui.t
    if job.state == State.SUCCEEDED:
        said = job.result or {}
        told = t("make.made", name=said["name"], version=said["version"], rows=number(said["usable_rows"]))
        return note("", told, tone="good", action=datacard.goto_page(t("make.open"), said["name"]))
    if job.state in FINAL:
        return note(t("make.failed"), ui.t.failure(str(job.reason), job.values), tone="bad")
    return note("", t("make.collecting"), action=bar(None))
