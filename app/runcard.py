"""The run card: whether a run is ready, what it will do, and what was measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from app import asking, draft, filling, submission, trials
from app.filling import Filled, World
from app.form import named
from app.language import Text
from app.measure import duration, number, percent, plain, short, size
from app.render import Html, bar, card, chip, join, key_values, note, problems, tag
from app.ui import Ui
from engine.specs.job import JobSpec
from engine.specs.problem import Problem, ProblemError, problem
from storage import jobs
from storage.jobs import Job
from storage.states import State

ANSWER_WITHIN_S = 0.35
"""How long a handler waits for the numbers; after that the page asks again by its timer."""

Plan = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Card:
    """What is known of the run that the form describes."""

    filled: Filled
    spec: JobSpec | None
    problems: tuple[Problem, ...] = ()
    plan: Plan | None = None
    request_id: int | None = None
    """The question for the numbers that is still open."""
    worker: bool = True
    trial: Job | None = None
    place: int | None = None
    """The trial's place in the queue."""
    memory_bytes: int | None = None
    """What the device has."""

    @property
    def is_ready(self) -> bool:
        """Nothing that is known speaks against starting."""
        return self.spec is not None and not self.problems

    @property
    def is_moving(self) -> bool:
        """Whether looking again in a moment may show more."""
        return self.request_id is not None or (self.trial is not None and self.trial.state in trials.OPEN)


def assess(ui: Ui, request_id: int | None = None, *, within_s: float = ANSWER_WITHIN_S) -> Card:
    """Look at the form, ask for its numbers or look for the answer to `request_id`, and return what is known."""
    with ui.store.read() as session:
        world = filling.look_around(session)
        filled = filling.fill(draft.chosen(session), world)
        try:
            spec = submission.prepare(session, filled.data)
        except ProblemError as error:
            return Card(filled, None, error.problems)
        trial = trials.find(session, spec)
        place = jobs.queue_position(session, trial.id) if trial else None
    about: dict[str, Any] = {"trial": trial, "place": place, "memory_bytes": _memory(world, spec)}
    if not asking.worker_lives(ui.store):
        return Card(filled, spec, worker=False, **about)
    if request_id is None:
        request_id = asking.ask(ui.store, "plan", {"spec": spec.model_dump(mode="json")})
    answer = asking.wait(ui.store, request_id, within_s=within_s)
    if answer.is_open:
        return Card(filled, spec, request_id=request_id, **about)
    plan = answer.data or {}
    found = (*answer.problems, *(Problem.from_dict(item) for item in plan.get("problems", ())))
    if not plan and not found:
        found = (problem("plan_lost"),)
    return Card(filled, spec, found, plan, **about)


def _memory(world: World, spec: JobSpec) -> int | None:
    kind = world.device if spec.resources.devices == "auto" else spec.resources.devices
    return next((one.get("memory_bytes") for one in world.devices if one.get("kind") == kind), None)


def html(about: Card, t: Text) -> Html:
    """Return the card."""
    label, tone = _chip(about, t)
    parts: list[object] = []
    if about.problems:
        parts.append(problems((named(one, t) for one in about.problems), t))
    if not about.worker:
        parts.append(note("", t("train.no_worker"), tone="waiting"))
    if about.spec is not None:
        parts += [key_values(_rows(about, about.spec, t)), _fit(about, t), _warnings(about, t)]
    return card(*parts, title=t("train.card"), aside=chip(label, tone))


def _chip(about: Card, t: Text) -> tuple[str, str]:
    if about.problems:
        return t("train.not_ready"), "bad"
    if not about.worker:
        return t("train.not_counted"), "waiting"
    return (t("train.counting"), "waiting") if about.request_id is not None else (t("train.ready"), "good")


def _rows(about: Card, spec: JobSpec, t: Text) -> Iterator[tuple[object, object]]:
    plan = about.plan or {}
    batch = t("train.batch_of", batch=spec.training.batch_size, passes=spec.training.gradient_accumulation)
    if "steps" in plan:
        yield (
            t("train.steps"),
            _with(number(plan["steps"]), t("train.epochs_of", epochs=plain(round(_epochs(plan, spec), 2)))),
        )
    yield t("train.effective_batch"), _with(t("train.rows_of", n=spec.effective_batch), batch)
    if "train_rows" in plan:
        yield t("train.rows"), _row_counts(plan, t)
    if plan.get("total_tokens"):
        share = percent(plan.get("trained_tokens", 0) / plan["total_tokens"])
        yield t("train.tokens"), t("train.share_of", share=share, total=short(plan["total_tokens"]))
    if plan.get("parameters"):
        yield t("train.weights"), t("train.of", part=short(plan.get("trainable", 0)), whole=short(plan["parameters"]))
    if "cut_rows" in plan:
        yield t("train.cut"), _cut(plan, spec, t)
    yield t("train.time"), _time(about, t)
    yield t("train.memory"), _peak(about, t)


def _epochs(plan: Plan, spec: JobSpec) -> float:
    """The epochs that the steps come to, where a number of steps was set."""
    per_epoch = plan.get("steps_per_epoch")
    return plan["steps"] / per_epoch if spec.training.max_steps and per_epoch else spec.training.epochs


def _row_counts(plan: Plan, t: Text) -> Html:
    names = (("train_rows", "train.rows_train"), ("eval_rows", "train.rows_eval"), ("test_rows", "train.rows_test"))
    known = [t(key, n=number(plan[name])) for name, key in names if plan.get(name) is not None]
    left_out = plan.get("left_out_rows")
    shown = known + ([t("train.rows_left_out", n=number(left_out))] if left_out else [])
    return join((tag("span", each, cls="at-whole") for each in shown), " · ")


def _cut(plan: Plan, spec: JobSpec, t: Text) -> object:
    longest = plan.get("longest_row_tokens")
    if not plan["cut_rows"]:
        return _with(t("train.none_cut"), t("train.longest", n=number(longest)) if longest else "")
    share = plan.get("cut_answers_share")
    several = t("train.cut_rows", n=number(plan["cut_rows"]), length=number(spec.data.max_length))
    return _with(several, t("train.cut_answers", share=percent(share)) if share else "")


def _time(about: Card, t: Text) -> object:
    measured = _measured(about.trial)
    steps = (about.plan or {}).get("steps")
    if measured is None or "seconds_per_step" not in measured:
        return _not_measured(about, t)
    per_step = t("train.per_step", seconds=number(measured["seconds_per_step"]))
    if not steps:
        return per_step
    seconds = steps * measured["seconds_per_step"] + measured.get("start_seconds", 0)
    return _with(t("train.up_to", time=duration(t, seconds)), t("train.measured"))


def _peak(about: Card, t: Text) -> object:
    measured = _measured(about.trial)
    if measured is None or not measured.get("peak_memory_bytes"):
        return _not_measured(about, t)
    used = size(measured["peak_memory_bytes"])
    return t("train.of", part=used, whole=size(about.memory_bytes)) if about.memory_bytes else used


def _not_measured(about: Card, t: Text) -> object:
    trial = about.trial
    if trial is None or trial.state == State.CANCELLED:
        return t("train.not_measured")
    if trial.state == State.FAILED:
        return t("train.measure_failed")
    waits = trial.state == State.QUEUED
    return t("train.measure_waits", n=about.place) if waits and about.place else t("train.measuring")


def _measured(trial: Job | None) -> Mapping[str, Any] | None:
    return trial.result if trial is not None and trial.state == State.SUCCEEDED else None


def _fit(about: Card, t: Text) -> Html:
    measured = _measured(about.trial)
    if measured is not None and measured.get("peak_memory_bytes") and about.memory_bytes:
        share = measured["peak_memory_bytes"] / about.memory_bytes
        tone, key = next((tone, key) for limit, tone, key in FITS if share <= limit)
        return tag("div", bar(share, tone=tone, label=t("train.memory")), tag("p", t(key), cls="at-soft"), cls="at-fit")
    return Html("")


def _warnings(about: Card, t: Text) -> Html:
    found = (Problem.from_dict(item) for item in (about.plan or {}).get("warnings", ()))
    said = [t.told(one) for one in found if one.code not in SHOWN_ABOVE]
    return tag("div", *(note("", each, tone="waiting") for each in said), cls="at-stack at-over") if said else Html("")


SHOWN_ABOVE = ("rows_cut",)
"""Warnings that are figures of the card already."""

FITS = (
    (0.7, "good", "train.fits_easily"),
    (0.95, "waiting", "train.fits_barely"),
    (float("inf"), "bad", "train.fits_not"),
)
"""Shares of the device's memory."""


def trial_problem(about: Card, ui: Ui) -> Html:
    """Return why the measurement has no result, if it was tried."""
    trial = about.trial
    if trial is None or trial.state is not State.FAILED or trial.reason is None:
        return Html("")
    return note(ui.t("train.measure_failed_title"), ui.t.failure(trial.reason, trial.values), tone="bad")


def _with(value: object, small: object) -> Html:
    return join([value, tag("small", small)], " ") if small else join([value])
