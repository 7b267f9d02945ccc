"""The child that makes a dataset version of others.

`python -m engine.runtime.deriving JOB_ID TOKEN`
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engine.data.derive.making import Made, make
from engine.data.derive.sources import Sources
from engine.runtime import child
from engine.runtime.child import Context
from engine.runtime.importing import ADDED, added_before, limit_resources, result_of
from engine.runtime.run_data import version_of
from engine.runtime.stopping import tell
from engine.specs.base import validate
from engine.specs.versions import DeriveSpec
from storage import datasets, jobs
from storage.datasets import NewVersion, Version


def main(context: Context) -> dict[str, Any]:
    """Make the job's version; an attempt that finds it added only says so."""
    limit_resources()
    spec = validate(DeriveSpec, context.spec)
    return added_before(context) or _derive(context, spec)


def _derive(context: Context, spec: DeriveSpec) -> dict[str, Any]:
    with context.store.read() as session:
        parents = [version_of(session, one) for one in spec.sources]
    sources = Sources([Path(one.path) for one in parents], lambda rows: tell(context, rows, 0))
    context.phase("deriving")
    made = make(sources, spec.operation, context.home.datasets)
    context.phase("storing")
    with context.store.write() as session:
        result = result_of(datasets.add_version(session, _new_version(spec, parents, made)))
        jobs.event(session, context.claim, ADDED, result)  # a stale attempt fails here, and adds nothing
    return result


def _new_version(spec: DeriveSpec, parents: list[Version], made: Made) -> NewVersion:
    settings = spec.operation.model_dump(mode="json")
    operation = settings.pop("kind")
    told = [{"name": one.name, "version": one.version, "sha256": one.sha256} for one in parents]
    return NewVersion(
        name=spec.name,
        sha256=made.sha256,
        path=str(made.path),
        row_kind=made.row_kind,
        format=parents[0].format,
        rows=made.rows,
        usable_rows=made.rows,
        bytes=made.bytes,
        source_name=parents[0].source_name,
        warnings=[item.as_dict() for item in made.warnings],
        statistics=made.statistics,
        policy=parents[0].policy,
        made_from={"operation": operation, "settings": settings, "parents": told},
    )


if __name__ == "__main__":
    child.run(main)
