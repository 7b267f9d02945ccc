"""Orders for making data: to draft rows with a model, to decide on the drafts, to make a dataset of those kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy.orm import Session

from app import dataorders
from engine.specs.base import validate
from engine.specs.drafting import CollectSpec, DraftSpec, cost
from engine.specs.kinds import KINDS
from engine.specs.problem import ProblemError, problem
from engine.specs.recipes import RECIPES, Judge
from storage import jobs, proposals, targets
from storage.errors import Conflict, NotFound
from storage.jobs import Job, SubmitOptions
from storage.proposals import Proposal
from storage.states import FINAL, State

DRAFT, COLLECT = "draft", "collect"
MOST_COLLECTED, MOST_LISTED = 200, 1000
LARGEST_ID = 2**63 - 1
Texts = tuple[str, str, float | None]
"""The question, the answer, and the score of a judged one."""


def draft(session: Session, dataset: str, data: Mapping[str, Any]) -> Job:
    """Queue a drafting job on a dataset; `data` is the rest of its spec, untrusted.

    Raises:
        ProblemError: with every problem of the spec.
        StoreError: the dataset, model or checkpoint is not there.
    """
    version = dataorders.named(session, dataset)
    spec = validate(DraftSpec, {**data, "data": dataorders.part(version)})
    spec.recipe.must_take(version.row_kind)
    exact = spec.model_dump(mode="json")
    if "target" in exact["generator"]:
        exact["generator"]["target"] = targets.resolve(session, exact["generator"]["target"]).text
    return jobs.submit(session, kind=DRAFT, name=version.name, spec=exact, lane=spec.generator.lane)


def go_on(session: Session, job_id: int, *, with_all: bool) -> Job:
    """Queue a job that goes on with another's drafts: asks for what failed again, and for all rows where that is meant.

    A second order gives the same job. Where there was a budget, as much may be spent again.

    Raises:
        NotFound: there is no such drafting job.
        Conflict: it has not ended.
    """
    before = drafting(session, job_id)
    if before.state not in FINAL:
        raise Conflict("job_not_over", {"id": job_id, "state": before.state})
    spec = {**before.spec, **({"requests": None} if with_all else {})}
    if spec.get("budget") is not None:
        counts = proposals.counts(session, job_id)
        spent = cost(before.spec["generator"], counts.tokens_in, counts.tokens_out)
        spec["budget"] += spent
    options = SubmitOptions(idempotency_key=f"go on {job_id}", parent_id=job_id)
    job = jobs.submit(session, kind=DRAFT, name=before.name, spec=spec, lane=before.lane, options=options)
    proposals.take_over(session, job_id, job.id)
    return job


def latest(session: Session, job: Job) -> Job:
    """The job that goes on with what a job drafted, and so on; the job itself where none does."""
    after = {one.parent_id: one for one in jobs.listing(session, kinds=[DRAFT], limit=MOST_LISTED) if one.parent_id}
    while job.id in after:
        job = after[job.id]
    return job


def listing(session: Session, limit: int) -> list[Job]:
    """The newest drafting jobs, without those that another goes on with."""
    found = jobs.listing(session, kinds=[DRAFT], limit=limit)
    continued = {one.parent_id for one in found}
    return [one for one in found if one.id not in continued]


def collect(session: Session, job_id: int, name: str) -> Job:
    """Queue making a dataset of the drafts of a job that were kept; while one is under way, that one is returned.

    Raises:
        ProblemError: none was kept, or the name cannot be one.
        NotFound: there is no such drafting job.
    """
    job = drafting(session, job_id)
    spec = validate(CollectSpec, {"job": job_id, "name": name}).model_dump(mode="json")
    if not proposals.counts(session, job_id).kept:
        raise ProblemError([problem("data_nothing_kept", field="job", id=job_id)])
    recipe = RECIPES[job.spec["recipe"]["kind"]]
    if name == job.spec["data"]["dataset"] and recipe.makes not in recipe.takes:  # another kind is no version of it
        raise ProblemError([problem("data_name_of_source", field="name", name=name)])
    under_way = jobs.listing(session, kinds=[COLLECT], states=[State.QUEUED, State.RUNNING])
    same = next((one for one in under_way if one.spec == spec), None)
    return same or jobs.submit(session, kind=COLLECT, name=name, spec=spec, lane=KINDS[COLLECT].lane)


def last_collected(session: Session, job_id: int) -> Job | None:
    """The newest job that makes or made a dataset of a job's drafts."""
    found = jobs.listing(session, kinds=[COLLECT], limit=MOST_COLLECTED)
    return next((one for one in found if one.spec.get("job") == job_id), None)


def drafting(session: Session, job_id: int) -> Job:
    """Find a drafting job.

    Raises:
        NotFound: there is none with this id.
    """
    found = jobs.get(session, job_id)
    if found.kind != DRAFT:
        raise NotFound("job", job_id)
    return found


def draft_of(session: Session, job_id: int, proposal_id: int) -> Proposal:
    """Find a draft of a job.

    Raises:
        NotFound: it has none with this id.
    """
    found = proposals.get(session, proposal_id) if 0 < proposal_id <= LARGEST_ID else None
    if found is None or found.job_id != job_id:
        raise NotFound("proposal", proposal_id)
    return found


def texts_of(one: Proposal) -> Texts:
    """What a person reads of a draft."""
    content = one.content or {}
    if "completion" in content:
        return content["prompt"][-1]["content"], content["completion"][-1]["content"], content.get("score")
    place = _last_answer(content["messages"])
    return content["messages"][place - 1]["content"], content["messages"][place]["content"], None


def keep(session: Session, proposal_id: int, texts: Texts) -> None:
    """Keep a draft as a person left it; one that was not changed stays marked as the model's own.

    Raises:
        ProblemError: a text is empty, or the score is none.
        NotFound: it is gone.
    """
    one = proposals.get(session, proposal_id)
    question, answer, score = texts
    if not question.strip() or not answer.strip():
        raise ProblemError([problem("draft_text_empty", field="drafts")])
    if texts == texts_of(one):
        proposals.decide(session, one.job_id, [one.id], proposals.KEPT)
        return
    proposals.edit(session, one.id, _changed(session, one, question, answer, score))


def _changed(session: Session, one: Proposal, question: str, answer: str, score: float | None) -> dict[str, Any]:
    content = dict(one.content or {})
    if "completion" in content:
        if score is None or not 1 <= score <= 5:
            raise ProblemError([problem("draft_score", field="drafts", given=score)])
        recipe = validate(DraftSpec, jobs.get(session, one.job_id).spec).recipe
        assert isinstance(recipe, Judge)  # no other recipe makes rows with a completion
        return {**content, "score": float(score), "label": score >= recipe.good_from}
    turns = list(content["messages"])
    place = _last_answer(turns)
    turns[place - 1 : place + 1] = [{**turns[place - 1], "content": question}, {**turns[place], "content": answer}]
    return {**content, "messages": turns}


def _last_answer(turns: list[dict[str, Any]]) -> int:
    return max(place for place, turn in enumerate(turns) if turn["role"] == "assistant")
