"""The head of a chosen run: where it stands, how long it still takes, and its main figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from app import failurecard
from app.curves import judged_by, objective_of
from app.language import Text
from app.measure import duration, number, readable, short, size, when
from app.render import Html, bar, button_link, card, chip, facts, note, tag
from app.run_list import DISK_FULL, state_words, subtitle
from app.ui import Ui
from engine.advice.advice import Advice
from engine.advice.diagnosis import diagnose
from engine.specs.job import LOSS
from storage import checkpoints, jobs, metrics
from storage.checkpoints import Checkpoint
from storage.jobs import Attempt, Job
from storage.metrics import Series
from storage.states import FINAL, State

DIAGNOSIS_POINTS = 300


@dataclass(frozen=True, slots=True)
class Standing:
    """All that the head of a run shows, read in one transaction."""

    job: Job
    position: int | None
    latest: dict[str, tuple[int, float | None]]
    series: Series
    pace_s: float | None
    best: Checkpoint | None
    last: Checkpoint | None
    attempts: Sequence[Attempt]


def standing(session: Session, job_id: int) -> Standing:
    """Read a run. Raises NotFound where there is none."""
    job = jobs.get(session, job_id)
    saved = checkpoints.listing(session, job_id)
    return Standing(
        job=job,
        position=jobs.queue_position(session, job_id),
        latest=metrics.latest(session, job_id),
        series=metrics.series(session, job_id, limit=DIAGNOSIS_POINTS),
        pace_s=metrics.pace_s(session, job_id) if job.state == State.RUNNING else None,
        best=checkpoints.best(session, job_id),
        last=saved[-1] if saved else None,
        attempts=jobs.attempts(session, job_id),
    )


def head(ui: Ui, found: Standing, now: float) -> Html:
    """Return the card at the top of a run."""
    t, job = ui.t, found.job
    words, tone = state_words(t, job, found.position, now)
    name = tag("div", tag("h2", job.name), tag("span", _about(t, job, now), cls="at-soft"))
    top = tag("div", name, chip(words, tone), cls="at-card-head at-run-head")
    return card(top, _progress(t, found), facts(_facts(t, found)))


def _about(t: Text, job: Job, now: float) -> str:
    if job.started_at is None:
        times = t("runs.submitted", at=when(t, job.created_at, now))
    else:
        times = t("runs.started", at=when(t, job.started_at, now))
    tries = t("runs.attempt", n=job.attempt) if job.attempt > 1 else ""
    return " · ".join(part for part in (f"#{job.id}", subtitle(t, job.spec), times, tries) if part)


def _progress(t: Text, found: Standing) -> Html:
    job = found.job
    if job.progress_total is None:
        return (
            tag("div", bar(None, label=t("runs.progress")), cls="at-progress")
            if job.state == State.RUNNING
            else tag("div", cls="at-progress")
        )
    step, total = job.progress_step or 0, job.progress_total
    share = step / total if total else 1.0
    left, right = [t("runs.step", step=number(step), total=number(total))], []
    if epoch := _epoch(job, share):
        left.append(t("runs.epoch", epoch=epoch, epochs=number((job.spec.get("training") or {}).get("epochs"))))
    if found.pace_s is not None and step < total:
        right.append(t("runs.left", time=duration(t, found.pace_s * (total - step))))
    if job.state in FINAL and job.started_at and job.finished_at:
        right.append(t("runs.took", time=duration(t, job.finished_at - job.started_at)))
    tone = {State.SUCCEEDED: "good", State.FAILED: "bad", State.QUEUED: "waiting"}.get(job.state, "accent")
    texts = tag("p", tag("span", " · ".join(left)), tag("span", " · ".join(right)))
    return tag("div", bar(share, tone=tone, label=t("runs.progress")), texts, cls="at-progress")


def _epoch(job: Job, share: float) -> str:
    training = job.spec.get("training") or {}
    if training.get("max_steps") is not None or not training.get("epochs"):
        return ""
    return f"{share * float(training['epochs']):.1f}"


def _facts(t: Text, found: Standing) -> list[tuple[object, object, object]]:
    value = {name: point[1] for name, point in found.latest.items()}
    rows = _learned(t, found, value)
    if found.best is not None:
        rows.append((t("runs.best_checkpoint"), t("runs.at_step", step=found.best.step), size(found.best.bytes)))
    if value.get("tokens_per_second") is not None:
        rows.append(
            (t("runs.speed"), short(_recent(found.series.get("tokens_per_second", []))), t("runs.tokens_per_second"))
        )
    memory = (found.job.result or {}).get("peak_memory_bytes") or value.get("memory_bytes")
    if memory:
        rows.append((t("runs.peak_memory"), size(float(memory)), ""))
    return rows


def _learned(t: Text, found: Standing, value: Mapping[str, float | None]) -> list[tuple[object, object, object]]:
    """What the run is judged by first: the loss, or where its best checkpoint is chosen by another figure, that."""
    measure, loss = judged_by(found.job.spec), (t("runs.loss"), number(value.get("loss")), "")
    best = found.best is not None and found.best.step == found.latest.get(measure, (None,))[0]
    said = tag("span", t("runs.best_so_far"), cls="at-good") if best else ""
    first = measure.removeprefix("eval_")
    rows: list[tuple[object, object, object]] = [loss] if "loss" in value else []
    if measure == LOSS:
        rows += [(t("runs.eval_loss"), number(value[LOSS]), said)] if LOSS in value else []
    elif measure in value or first in value:
        rows = [(_called(t, first), number(value.get(measure, value.get(first))), said), loss]
    for name in (*_metric(found.job), "rewards/margins", "rewards/accuracies"):
        shown, title = value.get(f"eval_{name}", value.get(name)), _called(t, name)
        if shown is not None and title not in [row[0] for row in rows]:
            rows.append((title, number(shown), ""))
    return rows


def _called(t: Text, name: str) -> str:
    """The title of a curve as the label of a figure: loss, reward, macro F1."""
    title = t(f"chart.{name}.title")
    return title[:1].lower() + title[1:]


def _metric(job: Job) -> Sequence[str]:
    """The measure of success of the run's objective, if it has one of its own."""
    objective = objective_of(job.spec)
    return (objective.metric,) if objective is not None and objective.metric else ()


def _recent(points: list[tuple[int, float | None]]) -> float:
    known = [value for _, value in points[-20:] if value is not None]
    return sum(known) / len(known) if known else 0.0


def remarks(ui: Ui, found: Standing) -> Html:
    """Return what to make of the run: why it ended, and what its curves say."""
    return Html("".join((*_ending(ui, found), *(_reading(ui.t, advice) for advice in _diagnosis(found)))))


def _ending(ui: Ui, found: Standing) -> list[Html]:
    job = found.job
    said = failurecard.overrides(ui, found.attempts)
    smaller = [note("", said, tone="waiting")] if said else []
    if job.state == State.FAILED:
        return [failurecard.failed(ui, job, found.attempts), *smaller]
    return [*_waiting(ui, job), *smaller]


def _waiting(ui: Ui, job: Job) -> list[Html]:
    t = ui.t
    if job.state == State.QUEUED and job.reason == DISK_FULL and not job.held:
        action = button_link(t("page.disk"), "/disk", small=True)
        why = t("queue.why_disk", **readable(job.values)) if "needed_bytes" in job.values else ""
        return [note(t("state.disk"), why, tone="waiting", action=action)]
    if job.state == State.QUEUED and job.run_after is not None and job.reason:
        return [note(t("runs.again"), ui.reason(job.reason, readable(job.values)), tone="waiting")]
    if job.state == State.QUEUED and job.held and job.attempt:
        return [note("", t("runs.paused_note"), tone="waiting")]
    return []


def _diagnosis(found: Standing) -> list[Advice]:
    phase = "finished" if found.job.state in FINAL else "running"
    return diagnose(found.series, phase, judged_by(found.job.spec))


def _reading(t: Text, advice: Advice) -> Html:
    return note(t("runs.reading"), t(f"advice.{advice.code}", **advice.values))


def links(t: Text, found: Standing) -> Html:
    """Return where one can go from here: export, and chat where it gives text, once there is a checkpoint."""
    saved = found.best or found.last
    if saved is None:
        return Html("")
    target = f"{found.job.id}@{saved.step}"
    failed = found.job.state == State.FAILED  # the one button that stands out is then that of the remedy
    talks, ended = saved.head == "language", found.job.state in FINAL
    chat = button_link(t("runs.chat_with", step=saved.step), f"/chat?target={target}", primary=not failed)
    export = button_link(t("runs.export"), f"/export?target={target}", primary=not (talks or failed))
    return tag("div", chat if talks else "", export if ended else "", cls="at-ways")


def offers(job: Job) -> dict[str, bool]:
    """Return which wishes a job in this state can be asked."""
    running, queued = job.state == State.RUNNING, job.state == State.QUEUED
    asked = job.cancel_requested_at is not None or job.stop_requested_at is not None
    return {
        "pause": (running and not asked and job.pause_requested_at is None) or (queued and not job.held),
        "resume": (queued and job.held) or (running and not asked and job.pause_requested_at is not None),
        "stop": (running and not asked) or (queued and job.attempt > 0),
        "cancel": (running and job.cancel_requested_at is None) or queued,
        "retry": job.state in (State.FAILED, State.CANCELLED),
        "continue": job.state == State.SUCCEEDED,
        "delete": job.state in FINAL,
    }


def wish(name: str) -> Any:
    """Return the store's function behind a button."""
    return {
        "pause": jobs.pause,
        "resume": jobs.resume,
        "stop": jobs.stop_and_keep,
        "cancel": jobs.cancel,
        "retry": jobs.retry,
    }[name]
