"""Deleting a job or a dataset: its rows, then its files. Folders go only from below one of ours."""

from __future__ import annotations

import shutil
from pathlib import Path

from app.folders import bytes_below
from engine.specs import printed
from engine.specs.home import Home
from storage import datasets, jobs
from storage.database import Store


def folders_of(home: Home, job_id: int) -> list[Path]:
    """Return where a job may have left files."""
    log = home.log(int(job_id))
    return [home.runs / str(int(job_id)), home.exports / str(int(job_id)), log, printed.before(log)]


def size_of(store: Store, home: Home, job_id: int) -> int:
    """Return the bytes that deleting a job frees.

    Raises:
        NotFound: there is no such job.
    """
    with store.read() as session:
        jobs.get(session, job_id)
    return sum(bytes_below(path) for path in folders_of(home, job_id))


def delete_job(store: Store, home: Home, job_id: int) -> None:
    """Delete a job that has ended. Rows go first: files without a row are garbage, a row without files is a lie.

    Raises:
        NotFound, Conflict: there is no such job, it has not ended, or another one needs it.
    """
    with store.write() as session:
        jobs.delete(session, job_id)
    for path in folders_of(home, job_id):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def delete_dataset(store: Store, home: Home, name: str) -> None:
    """Delete a dataset and the files that no other one needs.

    Raises:
        Conflict, NotFound: the dataset is in use or gone.
    """
    with store.write() as session:
        gone = datasets.delete(session, name)
    for version in gone:
        delete_folder(Path(version.path).resolve().parent, below=home.datasets)


def delete_folder(folder: Path, *, below: Path) -> None:
    """Delete a folder that lies below another one once links are resolved; any other is left alone."""
    folder, root = folder.resolve(), below.resolve()
    if folder != root and folder.is_relative_to(root):
        shutil.rmtree(folder, ignore_errors=True)
