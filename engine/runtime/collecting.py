"""The child that makes a dataset of the drafts that a person kept.

`python -m engine.runtime.collecting JOB_ID TOKEN`
"""

from __future__ import annotations

from typing import Any

from engine.data.derive.making import Made, store
from engine.data.drafting import RECIPES
from engine.runtime import child
from engine.runtime.child import Context
from engine.runtime.importing import ADDED, added_before, limit_resources, result_of
from engine.specs.base import validate
from engine.specs.drafting import CollectSpec, DraftSpec
from engine.specs.problem import ProblemError, problem
from storage import datasets, jobs, proposals
from storage.datasets import NewVersion
from storage.errors import NotFound

OPERATION = "draft"


def main(context: Context) -> dict[str, Any]:
    """Make the job's version; an attempt that finds it added only says so."""
    limit_resources()
    spec = validate(CollectSpec, context.spec)
    return added_before(context) or _collect(context, spec)


def _collect(context: Context, spec: CollectSpec) -> dict[str, Any]:
    context.phase("storing")
    with context.store.read() as session:
        drafting = _drafting(session, spec.job)
        recipe = RECIPES[drafting.recipe.kind]
        rows = (dict(one.content or {}) for one in proposals.kept(session, spec.job))
        made = store(rows, drafting.recipe.makes, context.home.datasets)
        edited = proposals.counts(session, spec.job).edited
    new = _new_version(spec, drafting, made, recipe.format, edited)
    with context.store.write() as session:
        result = result_of(datasets.add_version(session, new))
        jobs.event(session, context.claim, ADDED, result)  # a stale attempt fails here, and adds nothing
    return result


def _drafting(session: Any, job_id: int) -> DraftSpec:
    try:
        job = jobs.get(session, job_id)
    except NotFound as error:
        raise ProblemError([problem("data_drafts_gone", field="job", id=job_id)]) from error
    return validate(DraftSpec, job.spec)


def _new_version(spec: CollectSpec, drafting: DraftSpec, made: Made, shape: str, edited: int) -> NewVersion:
    source = drafting.data
    told = drafting.model_dump(mode="json")
    settings = {**told["recipe"], **{f"generator_{name}": value for name, value in told["generator"].items()}}
    settings |= {name: told[name] for name in ("max_tokens", "temperature", "seed")}
    return NewVersion(
        name=spec.name,
        sha256=made.sha256,
        path=str(made.path),
        row_kind=made.row_kind,
        format=shape,
        rows=made.rows,
        usable_rows=made.rows,
        bytes=made.bytes,
        source_name=source.dataset,
        warnings=[item.as_dict() for item in made.warnings],
        statistics=made.statistics,
        policy="keep_usable",
        made_from={
            "operation": OPERATION,
            "settings": {**settings, "job": spec.job, "edited": edited},
            "parents": [{"name": source.dataset, "version": source.version, "sha256": source.sha256}],
        },
    )


if __name__ == "__main__":
    child.run(main)
