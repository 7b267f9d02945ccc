"""The import child: reads a staged file into a new dataset version, in a process that can only hurt itself.

`python -m engine.runtime.importing JOB_ID TOKEN`, or `--inspect FILE [--format F] [--map ROLE=COLUMN …]`, which
stores nothing and prints one JSON document.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import resource
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from engine.data.growing import Growing
from engine.data.importer import Inspection, Stored, Wishes, inspect, store_rows
from engine.data.shape import MAX_NAMES
from engine.models.hub import download
from engine.runtime import child
from engine.runtime.child import Context
from engine.runtime.outcome import exit_of
from engine.runtime.stopping import tell
from engine.specs.base import validate
from engine.specs.home import inside
from engine.specs.other import ImportSpec
from engine.specs.problem import ProblemError, problem
from engine.specs.unfinished import abandoned_rows, kept_rows
from storage import datasets, jobs, retention
from storage.datasets import NewVersion, Version

MEMORY_BYTES = 8 * 2**30
CPU_S = 3600
LEFT_BEHIND_S = 7 * 86400.0
REPORT_EVERY_S = 0.3
ADDED = "version_added"


def main(context: Context) -> dict[str, Any]:
    """Import the job's file; an attempt that finds its version added only says so."""
    limit_resources()
    spec = validate(ImportSpec, context.spec)
    done = added_before(context)
    staged = inside(context.home.staging, spec.staged)
    if done is None:
        _sweep(context)
        done = _import(context, spec, staged)
    with contextlib.suppress(OSError):
        shutil.rmtree(staged) if staged.is_dir() else staged.unlink(missing_ok=True)
    return done


def _import(context: Context, spec: ImportSpec, staged: Path) -> dict[str, Any]:
    report = Report(context)
    if spec.hub is not None:
        context.phase("downloading")
        download(spec.hub, staged, kind="dataset", progress=report.fetched)
    if not staged.exists():
        raise ProblemError([problem("file_gone", field="staged", name=spec.source_name)])
    wishes = Wishes(spec.format, spec.mapping, spec.options, spec.source_name, spec.policy)
    context.phase("reading")
    stored = store_rows(staged, context.home.datasets, wishes, progress=report.read, unfinished=_unfinished(context))
    context.phase("storing")
    with context.store.write() as session:
        version = datasets.add_version(session, _new_version(spec, stored))
        result = result_of(version)
        jobs.event(session, context.claim, ADDED, result)  # a stale attempt fails here, and adds nothing
    return result


class Report:
    """Tells how far it is, a few times a second, and stops where that is wished."""

    def __init__(self, context: Context) -> None:
        self._context, self._told_at = context, 0.0

    def read(self, rows: int, share: float | None) -> None:
        """So many rows, and the share of the file where that is known."""
        self._tell(rows, round(rows / share) if share else 0)

    def fetched(self, done: int, total: int) -> None:
        """So many bytes of how many."""
        self._tell(done, total)

    def _tell(self, step: int, total: int) -> None:
        if time.monotonic() - self._told_at < REPORT_EVERY_S:
            return
        self._told_at = time.monotonic()
        tell(self._context, step, total)


def _unfinished(context: Context) -> Path:
    """The attempt's own folder for what it has read, with what an earlier attempt had read in it."""
    folder = context.home.datasets / f".incoming-{context.job.id}-{context.claim.token}"
    earlier = sorted(context.home.datasets.glob(f".incoming-{context.job.id}-*"), key=lambda one: one.stat().st_mtime)
    if earlier and folder not in earlier:
        Growing.take_over(earlier[-1], folder)
    return folder


def added_before(context: Context) -> dict[str, Any] | None:
    """What an earlier attempt added, if it came so far."""
    with context.store.read() as session:
        events = jobs.events(session, context.job.id)
    return next((dict(event.data) for event in events if event.kind == ADDED), None)


def _new_version(spec: ImportSpec, stored: Stored) -> NewVersion:
    found = stored.inspection
    return NewVersion(
        name=spec.name,
        sha256=stored.sha256,
        path=str(stored.path),
        row_kind=found.row_kind,
        format=found.format,
        rows=found.rows,
        usable_rows=found.usable_rows,
        bytes=stored.bytes,
        source_name=spec.source_name,
        mapping=found.mapping,
        problems=[item.as_dict() for item in found.problems],
        problem_count=found.problem_count,
        warnings=[item.as_dict() for item in found.warnings],
        statistics={**found.statistics, "recognition": _recognition(found), "problem_kinds": found.problem_kinds},
        policy=spec.policy,
    )


def _recognition(found: Inspection) -> dict[str, Any]:
    """How the shape was found, so that it can be put right."""
    reasons = [one.as_dict() for one in found.reasons]
    plain = {"confidence": found.confidence, "others": found.others, "columns": found.columns[:MAX_NAMES]}
    return {**plain, "reasons": reasons, "options": found.options}


def result_of(version: Version) -> dict[str, Any]:
    """What a job that made a version says of it."""
    return {
        "id": version.id,
        "version_id": version.id,
        "dataset_id": version.dataset_id,
        "name": version.name,
        "version": version.version,
        "rows": version.rows,
        "usable_rows": version.usable_rows,
        "problem_count": version.problem_count,
    }


def _sweep(context: Context) -> None:
    """Remove what imports left behind that have ended for good, and what work without a job of its own did that was
    killed."""
    with context.store.read() as session:
        open_jobs = retention.staged_names(session)
    for path in abandoned_rows(context.home, open_jobs):
        shutil.rmtree(path, ignore_errors=True)
    kept = set(kept_rows(context.home, open_jobs))
    for path in context.home.datasets.glob(".incoming-*"):
        with contextlib.suppress(OSError):
            if path not in kept and time.time() - path.stat().st_mtime > LEFT_BEHIND_S:
                shutil.rmtree(path)


def limit_resources() -> None:
    """Let a hostile file exhaust this process alone."""
    for kind, limit in ((resource.RLIMIT_AS, MEMORY_BYTES), (resource.RLIMIT_CPU, CPU_S)):
        _, hard = resource.getrlimit(kind)
        resource.setrlimit(kind, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


def inspect_document(path: Path, wishes: Wishes) -> tuple[int, dict[str, Any]]:
    """The exit code and the JSON document of a dry run."""
    try:
        found = inspect(path, wishes)
    except ProblemError as error:
        return int(exit_of(error.problems)), {"problems": [item.as_dict() for item in error.problems]}
    document = found.as_dict()
    return (0 if found.usable_rows else 65), document


def _inspect(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--inspect", type=Path, required=True)
    parser.add_argument("--format")
    parser.add_argument("--map", action="append", default=[])
    parser.add_argument("--source-name")
    given = parser.parse_args(arguments)
    limit_resources()
    mapping: Mapping[str, str] = dict(pair.split("=", 1) for pair in given.map if "=" in pair)
    code, document = inspect_document(given.inspect, Wishes(given.format, mapping, source_name=given.source_name))
    json.dump(document, sys.stdout, ensure_ascii=False, allow_nan=False)
    return code


if __name__ == "__main__":
    if "--inspect" in sys.argv[1:]:
        sys.exit(_inspect(sys.argv[1:]))
    child.run(main)
