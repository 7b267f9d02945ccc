"""What a run answered while it was trained: each prompt with its answers and their rewards, the best first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from sqlalchemy.orm import Session

from app.curves import objective_of
from app.language import Text
from app.measure import number
from app.render import Html, card, chip, empty, tag
from storage import samples as store_samples
from storage.jobs import Job
from storage.samples import Sample


def samples(t: Text, session: Session, job: Job, step: int | None) -> Html:
    """Return the samples of a step, or of the newest one; without any, what will appear here."""
    wanted = step if step is not None else next(iter(store_samples.steps(session, job.id)), None)
    found = [] if wanted is None else store_samples.of_step(session, job.id, wanted)
    if wanted is None or not found:
        return empty(t("runs.no_samples"), t("runs.no_samples_text"))
    known = [one.reward for one in found if one.reward is not None]
    mean = number(sum(known) / len(known)) if known else "–"
    groups = [list(group) for _, group in groupby(found, key=lambda one: one.question)]
    head = tag("p", t("runs.samples_step", step=number(wanted), prompts=number(len(groups)), mean=mean))
    return tag("div", head, *(_question(t, group) for group in groups), cls="at-stack", id="at-samples")


def draws(job: Job) -> bool:
    """Whether runs with this job's objective draw answers for rewards."""
    objective = objective_of(job.spec)
    return objective is not None and "reward" in objective.curves


def _question(t: Text, group: Sequence[Sample]) -> Html:
    first = group[0]
    reference = [_said(tag("h3", t("runs.samples_reference")), first.reference)] if first.reference else []
    answers = (_answer(t, one) for one in group)
    asked = tag("div", first.prompt, cls="at-question")
    return card(asked, tag("div", *reference, *answers, cls="at-pair"), title=t("runs.samples_prompt"))


def _answer(t: Text, one: Sample) -> Html:
    reward = "–" if one.reward is None else number(one.reward)
    cut = chip(t("runs.samples_cut"), "warn") if one.cut else ""
    head = tag("h3", t("runs.samples_reward", reward=reward, n=number(one.num_tokens)), " ", cut)
    same = bool(one.reference) and one.completion.strip() == one.reference.strip()
    return _said(head, one.completion, foot=" · ".join(_rewards(t, one)), same=same)


def _rewards(t: Text, one: Sample) -> Iterator[str]:
    for name, value in one.rewards.items():
        yield f"{t.get(f'reward.{name}', name)} {'–' if value is None else number(value)}"


def _said(head: Html, text: str, *, foot: str = "", same: bool = False) -> Html:
    small = tag("p", foot) if foot else ""
    return tag("div", head, tag("pre", text or "–", tabindex="0"), small, cls="at-same" if same else None)
