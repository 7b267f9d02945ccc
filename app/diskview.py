"""The pieces of the Disk page: the whole, the runs with their checkpoints, exports, caches, and the store."""

from __future__ import annotations

from collections.abc import Sequence

from app import diskorders, downloads
from app.diskuse import RunUse, Use
from app.language import Text
from app.measure import number, size, when
from app.queueview import place_of
from app.render import Html, bar, card, chip, facts, key_values, link, note, table, tag
from storage.checkpoints import Checkpoint


def page(t: Text, use: Use, armed: str, now: float) -> Html:
    """Return the whole page; `armed` is the order that was given once."""
    parts = (_whole(t, use), _runs(t, use, armed, now), _exports(t, use, armed, now), _rest(t, use, armed))
    return tag("div", *(part for part in parts if part), _store(t, use, armed), cls="at-stack")


def sure(t: Text, use: Use, order: str) -> Html:
    """Return what is said at the first of two clicks."""
    verb, _, _ = diskorders.taken_apart(order)
    freed = size(diskorders.freed_by(use, order))
    return note("", t(f"disk.sure.{verb}", size=freed), tone="bad")


def _whole(t: Text, use: Use) -> Html:
    taken = use.total - use.free
    ours = sum(one.bytes for one in use.runs) + sum(size for _, size in use.exports) + use.datasets + use.models
    ours += use.unfinished + use.caches + use.logs + use.leftover_bytes + use.store + use.log_of_store
    share = taken / use.total if use.total else 0.0
    tone = "bad" if share > 0.95 else "waiting" if share > 0.85 else "plain"
    items = [
        (t("disk.free"), size(use.free)),
        (t("disk.taken"), size(taken)),
        (t("disk.ours"), size(ours)),
        (t("disk.total"), size(use.total)),
    ]
    return card(facts(items), tag("div", bar(share, tone=tone, label=t("disk.taken")), cls="at-under-facts"))


def _runs(t: Text, use: Use, armed: str, now: float) -> Html:
    if not use.runs:
        return card(tag("p", t("disk.no_runs"), cls="at-soft"), title=t("disk.runs"))
    rows = [_run(t, one, armed, now) for one in use.runs]
    total = size(sum(one.bytes for one in use.runs))
    return card(tag("p", t("disk.runs_text"), cls="at-soft"), *rows, title=t("disk.runs"), aside=total)


def _run(t: Text, one: RunUse, armed: str, now: float) -> Html:
    name = link(tag("strong", one.job.name), f"/runs?run={one.job.id}")
    about = tag("span", t("disk.checkpoints", n=len(one.saved)), " · ", size(one.bytes), cls="at-soft")
    button = _button(t, f"prune:{one.job.id}", armed, t("disk.prune", size=size(one.removable_bytes)))
    rows = link(t("disk.rows"), downloads.rows_address(one.job.id), download=True, cls="at-button at-small")
    top = tag("div", tag("span", name, " ", about), tag("span", button if one.removable else "", " ", rows))
    marks = table(
        [t("runs.column.step"), t("runs.column.size"), t("runs.column.saved"), ""],
        [_saved(t, one, saved, now) for saved in reversed(one.saved)],
    )
    return tag(
        "div", top, tag("details", tag("summary", t("disk.each")), marks, data_keep=f"run-{one.job.id}"), cls="at-use"
    )


def _saved(t: Text, run: RunUse, one: Checkpoint, now: float) -> Sequence[object]:
    marks = [
        chip(t("runs.best"), "good") if one.step == run.best else "",
        chip(t("disk.last")) if one is run.saved[-1] else "",
        chip(t("disk.pinned"), "accent") if one.pinned else "",
    ]
    verb = "unpin" if one.pinned else "pin"
    button = tag(
        "button",
        t(f"disk.{verb}"),
        type="button",
        cls="at-button at-small",
        data_order=f"{verb}:{run.job.id}:{one.step}",
        aria_label=t(f"disk.{verb}_step", step=one.step),
    )
    step = tag("span", number(one.step), *(part for mark in marks if mark for part in (" ", mark)))
    return [step, _whole_size(one.bytes), when(t, one.created_at, now), button]


def _exports(t: Text, use: Use, armed: str, now: float) -> Html:
    if not use.exports:
        return Html("")
    rows = [
        (
            link(job.name, place_of(job)),
            _whole_size(taken),
            when(t, job.finished_at, now),
            _button(t, f"export:{job.id}", armed, t("disk.delete")),
        )
        for job, taken in use.exports
    ]
    total = size(sum(taken for _, taken in use.exports))
    head = [t("disk.what"), t("runs.column.size"), t("disk.made"), ""]
    return card(table(head, rows), title=t("disk.exports"), aside=total)


def _rest(t: Text, use: Use, armed: str) -> Html:
    left = t("disk.leftovers_n", n=len(use.leftovers)) if use.leftovers else t("disk.leftovers_none")
    rows = [
        (link(t("disk.datasets"), "/data"), _whole_size(use.datasets), ""),
        *([_unfinished(t, use)] if use.unfinished else []),
        (link(t("disk.models"), "/models"), _whole_size(use.models), ""),
        (
            tag("span", t("disk.tokens"), " ", tag("span", t("disk.tokens_text"), cls="at-soft at-small")),
            _whole_size(use.caches),
            _button(t, "tokens:0", armed, t("disk.clear")) if use.caches else "",
        ),
        (
            tag("span", t("disk.leftovers"), " ", tag("span", left, cls="at-soft at-small")),
            _whole_size(use.leftover_bytes),
            _button(t, "leftovers:0", armed, t("disk.remove")) if use.leftovers else "",
        ),
        (t("disk.logs"), _whole_size(use.logs), ""),
    ]
    return card(table([t("disk.what"), t("runs.column.size"), ""], rows), title=t("disk.rest"))


def _unfinished(t: Text, use: Use) -> Sequence[object]:
    said = tag("span", t("disk.unfinished_text"), cls="at-soft at-small")
    return tag("span", t("disk.unfinished"), " ", said), _whole_size(use.unfinished), ""


def _store(t: Text, use: Use, armed: str) -> Html:
    items = [(t("disk.store_file"), size(use.store)), (t("disk.store_log"), size(use.log_of_store))]
    buttons = [_plain(t("disk.backup"), "backup:0"), _plain(t("disk.check"), "check:0")]
    rows = [
        (
            link(t("disk.backup_of", at=_stamp(stamp)), downloads.backup_address(stamp), download=True),
            _whole_size(taken),
            _button(t, f"unbackup:{stamp}", armed, t("disk.delete")),
        )
        for stamp, taken in use.backups
    ]
    kept = table([t("disk.backups"), t("runs.column.size"), ""], rows) if rows else ""
    body = tag("div", key_values(items), tag("p", *buttons, cls="at-choices"), kept, cls="at-stack")
    return card(tag("p", t("disk.store_text"), cls="at-soft"), body, title=t("disk.store"))


def _stamp(stamp: int) -> str:
    text = str(stamp)
    return f"{text[:4]}-{text[4:6]}-{text[6:8]} {text[8:10]}:{text[10:12]}:{text[12:14]}"


def _whole_size(num_bytes: int) -> Html:
    return tag("span", size(num_bytes), cls="at-whole")


def _plain(label: str, order: str) -> Html:
    return tag("button", label, type="button", cls="at-button", data_order=order)


def _button(t: Text, order: str, armed: str, label: str) -> Html:
    once = order == armed
    names = "at-button at-small at-stop" if once else "at-button at-small"
    return tag("button", t("disk.sure") if once else label, type="button", cls=names, data_order=order)
