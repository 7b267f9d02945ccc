"""What takes how much of the disk, and what of it can go."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.orm import Session

from app import ids
from app.folders import bytes_below
from engine.specs.home import Home
from engine.specs.unfinished import abandoned_rows, kept_rows
from storage import checkpoints, jobs, retention
from storage.checkpoints import Checkpoint
from storage.jobs import Job
from storage.states import FINAL, State

OLD_S = 3600.0
"""Files that were written less long ago may belong to work that has only just begun."""
UPLOAD_OLD_S = 86400.0
BACKUP = "atelier-{stamp}.db"
WRITING = ("export", "write_data")
"""The kinds of jobs that leave files to be fetched."""


@dataclass(frozen=True, slots=True)
class RunUse:
    """The checkpoints of a run, and those of them that may go."""

    job: Job
    saved: Sequence[Checkpoint]
    best: int | None
    removable: frozenset[int]

    @property
    def bytes(self) -> int:
        return sum(one.bytes for one in self.saved)

    @property
    def removable_bytes(self) -> int:
        return sum(one.bytes for one in self.saved if one.step in self.removable)


@dataclass(frozen=True, slots=True)
class Use:
    """The whole home. Sizes are bytes."""

    runs: Sequence[RunUse]
    exports: Sequence[tuple[Job, int]]
    datasets: int
    models: int
    caches: int
    logs: int
    unfinished: int
    """What imports have read that wait or run: they go on there."""
    leftovers: Sequence[Path]
    leftover_bytes: int
    store: int
    log_of_store: int
    backups: Sequence[tuple[int, int]]
    """Number and bytes, newest first."""
    free: int
    total: int


def read(session: Session, home: Home) -> Use:
    """Measure everything: rows where they tell the size, else the files."""
    caches = {path: bytes_below(path) for path in home.caches}
    cached = sum(size for path, size in caches.items() if path.is_relative_to(home.datasets))
    leftovers = list(find_leftovers(session, home))
    open_jobs = retention.staged_names(session)
    unfinished = sum(bytes_below(path) for path in kept_rows(home, open_jobs))
    abandoned = sum(bytes_below(path) for path in abandoned_rows(home, open_jobs))
    disk = shutil.disk_usage(home.root)
    exports = jobs.listing(session, kinds=WRITING, states=list(FINAL))
    taken = [(job, bytes_below(home.exports / str(job.id))) for job in exports]
    return Use(
        runs=list(_runs(session)),
        exports=[(job, size) for job, size in taken if size],
        datasets=bytes_below(home.datasets) - cached - unfinished - abandoned,
        models=bytes_below(home.models),
        caches=sum(caches.values()),
        logs=bytes_below(home.logs),
        unfinished=unfinished,
        leftovers=leftovers,
        leftover_bytes=sum(bytes_below(path) for path in leftovers),
        store=bytes_below(home.root / "store.db"),
        log_of_store=bytes_below(home.root / "store.db-wal"),
        backups=backups(home),
        free=disk.free,
        total=disk.total,
    )


def _runs(session: Session) -> Iterator[RunUse]:
    saved: dict[int, list[Checkpoint]] = {}
    for one in retention.listing(session):
        saved.setdefault(one.job_id, []).append(one)
    for job_id, found in sorted(saved.items(), key=lambda item: -sum(one.bytes for one in item[1])):
        best = checkpoints.best(session, job_id)
        removable = frozenset(one.step for one in retention.removable(session, job_id))
        yield RunUse(jobs.get(session, job_id), found, best.step if best else None, removable)


def find_leftovers(session: Session, home: Home) -> Iterator[Path]:
    """Yield what killed processes left half-made, rows of imports that ended without a version, uploads that nobody
    imported and no job will read, and files of jobs that were deleted."""
    running = {str(job.id) for job in jobs.listing(session, states=[State.RUNNING])}
    known = {str(job_id) for job_id in retention.job_ids(session)}
    half = [*home.models.glob(".tmp-*"), *(home.datasets / "tokens").glob(".making-*"), *home.root.glob("backups/.*")]
    half += [path for path in home.exports.glob(".tmp-*") if path.name.split("-")[1] not in running]
    for run in home.runs.glob("[0-9]*"):
        if run.name not in running:
            half += [*run.glob("*/.tmp-*"), *run.glob("*/.library")]
    orphans = [
        path
        for folder in (home.runs, home.exports)
        for path in folder.glob("[0-9]*")
        if ids.number(path.name) is not None and path.name not in known
    ]
    printed = home.logs.glob("job-*.log*")
    logs = [path for path in printed if path.name.removeprefix("job-").partition(".")[0] not in known]
    yield from (path for path in [*half, *orphans, *logs] if _age_s(path) > OLD_S)
    open_jobs = retention.staged_names(session)
    needed = set(open_jobs.values())
    yield from abandoned_rows(home, open_jobs)
    uploads = (path for path in home.staging.glob("*") if path.name not in needed)
    yield from (path for path in uploads if _age_s(path) > UPLOAD_OLD_S)


def _age_s(path: Path) -> float:
    try:
        return time.time() - path.lstat().st_mtime
    except FileNotFoundError:
        return 0.0


def backups(home: Home) -> list[tuple[int, int]]:
    """Return the backups of the store by their number, newest first, with their bytes."""
    names = {path.stem.removeprefix("atelier-"): path for path in (home.root / "backups").glob("atelier-*.db")}
    found = [(number, path) for text, path in names.items() if (number := ids.number(text)) is not None]
    return [(number, path.stat().st_size) for number, path in sorted(found, reverse=True)]


def backup_path(home: Home, number: int) -> Path:
    """Return where a backup lies."""
    return home.root / "backups" / BACKUP.format(stamp=number)
