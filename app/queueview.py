"""The pieces of the Queue page: the workers, what runs, what waits in which order, and what failed lately."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from app import failurecard
from app.crew import Member
from app.forecast import Span
from app.language import Text
from app.measure import readable, size, when
from app.queuemoves import PRIORITIES
from app.queuestate import Scene
from app.render import Html, bar, button_link, card, chip, empty, link, tag
from app.run_list import DISK_FULL, state_words, subtitle
from app.ui import Ui
from engine.specs.kinds import LANES
from storage.jobs import Job
from storage.states import State

PLACES = {
    "train": "/runs?run={id}",
    "import": "/data",
    "examine": "/data",
    "cluster": "/data",
    "derive": "/data",
    "write_data": "/data",
    "add_model": "/models",
    "merge": "/models?merge={id}",
    "export": "/export?export={id}",
}


@dataclass(frozen=True, slots=True)
class Row:
    """What a job's row shows beside its name: remarks, times and buttons; its turn where it waits for one."""

    about: Sequence[Html]
    span: Span
    buttons: Sequence[Html]
    position: int | None = None


def place_of(job: Job) -> str:
    """Return the address of the page that shows a job."""
    return PLACES.get(job.kind, "/train").format(id=job.id)


def crew(t: Text, scene: Scene, now: float) -> Html:
    """Return the workers: where each is, what it computes on, what it runs, and whether it is still there."""
    if not scene.members:
        return card(tag("p", t("queue.no_worker_text")), title=t("queue.workers"), tone="waiting")
    return card(tag("ul", *(_member(t, one, now) for one in scene.members), cls="at-crew"), title=t("queue.workers"))


def _member(t: Text, one: Member, now: float) -> Html:
    worker = one.worker
    seen = t("queue.alive") if one.lives else t("queue.gone", at=when(t, worker.seen_at, now))
    dot = tag("i", cls=f"at-dot at-{'good' if one.lives else 'bad'}")
    lanes = ", ".join(t(f"queue.lane.{lane}.short") for lane in worker.lanes)
    devices = " · ".join(_device(t, device) for device in worker.devices) or t("queue.no_device")
    names = [link(job.name, place_of(job)) for job in one.running]
    doing = tag("span", *(part for name in names for part in (name, " "))) if names else t("queue.nothing")
    head = tag("span", dot, tag("strong", worker.host), tag("span", f" · {seen}", cls="at-soft"))
    about = tag("span", t("queue.process", pid=worker.pid), " · ", devices, " · ", lanes, cls="at-soft at-small")
    waits = tag("span", t(f"queue.waits_for.{worker.waits_for}"), cls="at-small") if worker.waits_for else ""
    runs = tag("span", t("queue.doing"), " ", doing, cls="at-small")
    return tag("li", head, about, *([runs, waits] if one.lives else []))


def _device(t: Text, device: dict[str, object]) -> str:
    name = str(device.get("name") or t("frame.cpu", cores=device.get("cores", "")))
    memory = device.get("memory_bytes")
    return f"{name}, {size(memory)}" if isinstance(memory, int | float) else name


def lanes(ui: Ui, scene: Scene, now: float) -> Html:
    """Return what waits, lane by lane, in the order in which it will be taken."""
    if not scene.running and not scene.waiting:
        start = button_link(ui.t("runs.none_do"), "/train", primary=True)
        return empty(ui.t("queue.empty"), ui.t("queue.empty_text"), start)
    parts = [_lane(ui, scene, lane, now) for lane in LANES]
    return tag("div", *(part for part in parts if part), cls="at-stack")


def _lane(ui: Ui, scene: Scene, lane: str, now: float) -> Html:
    waiting = [job for job in scene.waiting if job.lane == lane]
    if not waiting:
        return Html("")
    rows = [_waiting(ui, scene, job, (place, len(waiting)), now) for place, job in enumerate(waiting)]
    listed = tag("ol", *rows, cls="at-queue", data_lane=lane, aria_label=ui.t(f"queue.lane.{lane}"))
    return card(listed, title=ui.t(f"queue.lane.{lane}"), aside=ui.t("queue.waiting", n=len(waiting)))


def running(ui: Ui, scene: Scene, now: float) -> Html:
    """Return what runs now, with who does it and how far it is."""
    if not scene.running:
        return Html("")
    rows = [_running(ui, scene, job, now) for job in scene.running]
    return card(tag("ol", *rows, cls="at-queue"), title=ui.t("queue.running"))


def _running(ui: Ui, scene: Scene, job: Job, now: float) -> Html:
    t = ui.t
    step, total = job.progress_step or 0, job.progress_total
    holder = next((one for one in scene.members if job in one.running), None)
    lost = holder is None or not holder.lives
    where = " · ".join(
        part
        for part in (
            job.owner_host or "",
            _device(t, holder.worker.devices[0]) if holder and holder.worker.devices else "",
            t("queue.worker_gone") if lost else "",
            t("runs.attempt", n=job.attempt) if job.attempt > 1 else "",
        )
        if part
    )
    steps = t("runs.step", step=step, total=total) if total else ""
    figures = tag("span", " · ".join(part for part in (where, steps) if part), cls="at-soft at-small")
    share = bar(step / total if total else None, label=job.name)
    wishes = ["pause", "stop"] if job.kind == "train" and job.stop_requested_at is None else []
    asked = job.cancel_requested_at is not None
    buttons = [] if asked else [_do(t, job, name) for name in (*wishes, "cancel")]
    times = Span(job.started_at, scene.spans[job.id].end)
    return _row(t, job, Row([figures, share], times, buttons), now)


def _waiting(ui: Ui, scene: Scene, job: Job, place: tuple[int, int], now: float) -> Html:
    t = ui.t
    why = _why(ui, scene, job, now)
    about = [tag("span", why, cls="at-soft at-small")] if why else []
    first, last = place[0] == 0, place[0] == place[1] - 1
    moves = [_move(t, job, "top", "⤒", first), _move(t, job, "up", "↑", first), _move(t, job, "down", "↓", last)]
    held = [_do(t, job, "release" if job.held else "hold"), _do(t, job, "cancel")]
    buttons = [tag("span", *moves, cls="at-moves"), _priority(t, job), *held, *_clone(t, job)]
    return _row(t, job, Row(about, scene.spans[job.id], buttons, scene.positions.get(job.id)), now)


def _row(t: Text, job: Job, row: Row, now: float) -> Html:
    moves = job.state == State.QUEUED
    grip = tag("span", "⋮⋮", cls="at-grip", aria_hidden="true", title=t("queue.drag")) if moves else ""
    top = _top(t, job, row.position, now)
    main = tag("div", top, *row.about, cls="at-job-main")
    more = {"draggable": "true", "data_job": job.id} if moves else {}
    return tag(
        "li", grip, main, _times(t, job, row.span, now), tag("div", *row.buttons, cls="at-job-do"), cls="at-job", **more
    )


def _top(t: Text, job: Job, position: int | None, now: float) -> Html:
    words, tone = state_words(t, job, position, now)
    name = link(tag("strong", job.name), place_of(job), title=job.name)
    kind = subtitle(t, job.spec) if job.kind == "train" else t(f"kind.{job.kind}")
    return tag("span", name, chip(words, tone), cls="at-run-line") + tag("span", kind, cls="at-soft at-small")


def _why(ui: Ui, scene: Scene, job: Job, now: float) -> str:
    """Return why a job waits, where its place in the queue does not say it."""
    t = ui.t
    if job.held:
        return t("queue.why_held")
    if job.reason == DISK_FULL and "needed_bytes" in job.values:
        return t("queue.why_disk", **readable(job.values))
    if job.run_after is not None and job.run_after > now:
        return ui.reason(job.reason, readable(job.values))
    if not scene.lives:
        return t("queue.why_no_worker")
    lacks = scene.lacks(job)
    said = (
        t("queue.lacks_gpu", host=host) if what == "gpu" else t("queue.lacks_path", host=host, path=what)
        for host, what in lacks
    )
    return t("queue.why_nobody", hosts="; ".join(said)) if lacks else ""


def _times(t: Text, job: Job, span: Span, now: float) -> Html:
    unknown = t("queue.unknown")
    started = job.state == State.RUNNING
    begin = when(t, span.start, now) if span.start is not None else unknown
    end = when(t, span.end, now) if span.end is not None else unknown
    if job.held:
        begin = end = "–"
    items = [(t("queue.started" if started else "queue.starts"), begin), (t("queue.ends"), end)]
    return tag("dl", *(tag("div", tag("dt", name), tag("dd", value)) for name, value in items), cls="at-times")


def _do(t: Text, job: Job, name: str) -> Html:
    order = f"{name}:{job.id}"
    return tag("button", t(f"queue.do.{name}"), type="button", cls="at-button at-small", data_order=order)


def _move(t: Text, job: Job, name: str, sign: str, off: bool) -> Html:
    label = t(f"queue.do.{name}", name=job.name)
    told = {"data_order": f"{name}:{job.id}", "aria_label": label, "title": label, "disabled": off}
    return tag("button", sign, type="button", cls="at-button at-small", **told)


def _clone(t: Text, job: Job) -> list[Html]:
    return [_do(t, job, "clone")] if job.kind == "train" else []


def _priority(t: Text, job: Job) -> Html:
    level = level_of(job.priority)
    options = (tag("option", t(f"queue.priority.{name}"), value=name, selected=name == level) for name in PRIORITIES)
    label = t("queue.priority_of", name=job.name)
    return tag("select", *options, aria_label=label, title=label, cls="at-select", data_order_of=f"priority:{job.id}")


def level_of(priority: int) -> str:
    """Return the name of a priority: high, normal or low.

    >>> level_of(0), level_of(3), level_of(-10)
    ('normal', 'high', 'low')
    """
    return "normal" if priority == 0 else "high" if priority > 0 else "low"


def late(ui: Ui, scene: Scene, now: float) -> Html:
    """Return the cards of the jobs that failed within the last day, the newest first."""
    if not scene.failed:
        return Html("")
    cards = []
    for job, attempts in scene.failed:
        ended = tag("span", f" · {when(ui.t, job.finished_at, now)}", cls="at-soft at-small")
        title = link(job.name, place_of(job)) + ended
        cards.append(failurecard.failed(ui, job, attempts, title=title))
    return tag("div", tag("h2", ui.t("queue.failed"), cls="at-section-title"), *cards, cls="at-stack")
