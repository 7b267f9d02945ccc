"""The pieces of the Export page: the list, what a choice means, progress, result, refusal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from app import downloads, measure
from app.language import Text
from app.render import Html, bar, button_link, card, chip, code, empty, facts, join, link, note, table, tag
from app.tones import TONES
from app.ui import Ui
from engine.exporters.limits import LIMITS
from engine.specs.problem import Problem
from storage.jobs import Job
from storage.states import State

REFUSED = "export_not_verified"
LANGUAGE = "language"


def top(t: Text) -> Html:
    """Return the page's title beside the way to a new export."""
    return tag(
        "div", tag("h1", t("page.export")), button_link(t("export.new"), "/export", small=True), cls="at-chat-top"
    )


def listing(found: Sequence[Job], current: int | None, t: Text) -> Html:
    """Return the exports, the chosen one marked."""
    if not found:
        return tag("p", t("export.none_yet"), cls="at-soft at-small")
    return tag("div", *(_entry(one, one.id == current, t) for one in found), cls="at-runs")


def _entry(one: Job, is_current: bool, t: Text) -> Html:
    first = tag("span", tag("strong", one.name), chip(_state(one, t), TONES[one.state]), cls="at-run-line")
    about = tag("span", _about(one, t), cls="at-soft")
    href = f"/export?export={one.id}"
    return link(
        join([first, about]), href, cls="at-run", data_select=str(one.id), aria_current="true" if is_current else None
    )


def _about(one: Job, t: Text) -> str:
    step = str(one.spec.get("target", "")).partition("@")[2]
    return " · ".join(
        [t("export.step", step=step), t(f"export.form.{one.spec.get('form')}"), t("export.number", id=one.id)]
    )


def _state(one: Job, t: Text) -> str:
    if one.state == State.SUCCEEDED:
        return t("export.state.checked")
    if one.reason == REFUSED:
        return t("export.state.refused")
    return t.either(f"export.state.{one.state}", f"state.{one.state}")


def meaning(form: str, base: str, bases: Sequence[str], t: Text, *, head: str = LANGUAGE) -> Html:
    """Return what a choice gives, and the limits that it will be held to."""
    limits = LIMITS[base if base in LIMITS else "trained"]
    said = t(f"export.base.{base}.meaning") if form == "merged" and len(bases) > 1 else ""
    bound = t(_of(head, "export.limits"), agreement=f"{100 * limits.min_agreement:g}", kl=f"{limits.max_kl:g}")
    parts = [t(f"export.form.{form}.meaning"), said, bound]
    return tag("div", *(tag("p", part, cls="at-soft") for part in parts if part), cls="at-stack")


def nothing(t: Text) -> Html:
    """Return what stands here before there is anything to export."""
    return empty(
        t("export.empty.title"), t("export.empty.text"), button_link(t("export.empty.action"), "/train", primary=True)
    )


def detail(ui: Ui, job: Job, title: str) -> Html:
    """Return an export: how far it is, or what became of it."""
    t = ui.t
    mark = tag("span", data_address=f"/export?export={job.id}", hidden=True)
    aside = chip(_state(job, t), TONES[job.state])
    parts = {State.SUCCEEDED: _done, State.FAILED: _failed}.get(job.state, _under_way)(ui, job)
    head = card(
        tag("div", *parts[0], cls="at-stack"),
        title=title,
        aside=aside,
        tone=TONES[job.state] if job.state in (State.FAILED, State.SUCCEEDED) else "",
    )
    return join([mark, tag("div", head, *parts[1:], cls="at-stack")])


def _under_way(ui: Ui, job: Job) -> list[Any]:
    t = ui.t
    phase = t.either(f"phase.{job.phase}", "export.working") if job.phase else t(f"export.{job.state}")
    cancel = tag("button", t("export.cancel"), type="button", cls="at-button at-small", data_order=f"cancel:{job.id}")
    running = job.state == State.RUNNING
    asked = t("export.cancelling") if job.cancel_requested_at is not None else phase
    body = [
        bar(None) if running else "",
        tag("p", asked, cls="at-soft"),
        cancel if job.state != State.CANCELLED else "",
    ]
    return [[tag("div", *body, cls="at-stack at-start")], *([] if job.state != State.CANCELLED else [_delete(job, t)])]


def _done(ui: Ui, job: Job) -> list[Any]:
    t, result = ui.t, job.result or {}
    checks = result.get("checks", {})
    lines = "\n".join(result.get("lines", []))
    name = f"at-lines-{job.id}"
    copy = tag("button", t("export.copy"), type="button", cls="at-button at-small", data_copy=f"#{name}")
    path = tag("span", result.get("path", ""), id=f"at-path-{job.id}", cls="at-path")
    copy_path = tag("button", t("export.copy"), type="button", cls="at-button at-small", data_copy=f"#at-path-{job.id}")
    return [
        [tag("p", t(_of(head_of(checks), "export.passed")), cls="at-soft"), figures(checks, t), _caution(checks, t)],
        card(_files(job, result.get("files", []), t), title=t("export.files"), aside=measure.size(_total(result))),
        card(tag("div", path, copy_path, cls="at-copy-line"), title=t("export.folder")),
        card(tag("div", code(lines), id=name), title=t("export.lines"), aside=copy),
        _delete(job, t),
    ]


def _failed(ui: Ui, job: Job) -> list[Any]:
    t = ui.t
    checks = (job.result or {}).get("checks") or (job.values if job.reason == REFUSED else {})
    if checks.get("agreement") is not None:
        remedy = t(f"export.refused.fix.{job.spec.get('base', 'trained')}")
        return [
            [tag("p", t(_of(head_of(checks), "export.refused"))), figures(checks, t), _caution(checks, t)],
            note(t("export.remedy"), remedy),
            _delete(job, t),
        ]
    found = [Problem.from_dict(one) for one in job.values.get("problems", [])]
    said = [t.problem(one) for one in found] or [
        (ui.reason(job.reason, job.values), t.remedy(job.reason, job.values) or t("export.retry"))
    ]
    return [[tag("p", f"{what} {fix}") for what, fix in said], _delete(job, t)]


def figures(checks: Mapping[str, Any], t: Text) -> Html:
    """Return how far the export is from the chat, each figure beside the limit that was stated before."""
    agreement = f"{100 * checks['agreement']:.2f} %"
    least = t("export.at_least", value=f"{100 * checks['min_agreement']:g}")
    most = t("export.at_most", value=f"{checks['max_kl']:g}")
    what = head_of(checks)
    source = checks["tokens_from" if what == LANGUAGE else "rows_from"]
    compared = checks["num_tokens" if what == LANGUAGE else "num_rows"]
    names = ", ".join(t(f"export.from.{one}") for one in source)
    if len(source) > 1:
        names = ", ".join(f"{t(f'export.from.{one}')} {measure.number(n)}" for one, n in source.items())
    items = [
        (t(f"export.agreement.{what}"), agreement, least),
        (t("export.kl"), measure.number(checks["kl"]), most),
        (t(_of(what, "export.compared")), measure.number(compared), names),
    ]
    if tried := checks.get("tried"):
        before = [
            t(
                "export.too_coarse",
                format=one["format"],
                agreement=f"{100 * one['agreement']:.2f}",
                kl=measure.number(one["kl"]),
            )
            for one in tried[:-1]
        ]
        items.append((t("export.format"), checks["format"], " ".join(before)))
    return facts(items)


def head_of(checks: Mapping[str, Any]) -> str:
    """Return what was compared: `labels`, `scores`, or the tokens of `language`."""
    return str(checks.get("compared", LANGUAGE))


def _of(head: str, sentence: str) -> str:
    """Return the sentence's key for a language model, or for any other head."""
    return sentence if head == LANGUAGE else f"{sentence}.head"


def _caution(checks: Mapping[str, Any], t: Text) -> Html:
    """Return what has to be said of figures that rest on little."""
    few = checks.get("caution")
    return note(t("export.caution"), t.problem(Problem.from_dict(few))[0], tone="waiting") if few else Html("")


def _files(job: Job, files: Sequence[Mapping[str, Any]], t: Text) -> Html:
    rows = [
        (link(one["name"], downloads.address(job.id, one["name"]), download=True), measure.size(one["bytes"]))
        for one in files
    ]
    return table([t("export.file"), t("export.size")], rows)


def _total(result: Mapping[str, Any]) -> int:
    return sum(int(one["bytes"]) for one in result.get("files", []))


def _delete(job: Job, t: Text) -> Html:
    sure = t("export.delete_sure", size=measure.size(_total(job.result or {})))
    button = tag(
        "button",
        t("export.delete"),
        type="button",
        cls="at-button at-small",
        data_order=f"delete:{job.id}",
        data_sure=sure,
    )
    return tag("p", button)
