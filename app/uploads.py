"""Files on their way to being datasets: taken in, and queued for import."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app import dataorders, removal, staging
from app.ui import Ui
from app.watching import watch
from engine.specs.base import validate
from engine.specs.other import ImportSpec
from storage.jobs import Job

SAMPLES = Path(__file__).parent.parent / "assets" / "samples"
SAMPLE_NAMES = ("tickets", "preferences")
PAGE = "data"


@dataclass(frozen=True, slots=True)
class Upload:
    """A file and what a person said about it."""

    paths: Sequence[Path]
    """Several become one dataset."""
    name: str = ""
    """How the dataset is called; empty: as the file."""
    policy: str = "keep_usable"


def take_in(ui: Ui, upload: Upload) -> Job:
    """Copy the file into the staging folder and queue its import.

    Raises:
        ProblemError: the file cannot be taken in, or what was said about it is wrong.
    """
    first, *others = upload.paths
    validate(
        ImportSpec, {"staged": "-", "source_name": "-", "name": upload.name or name_of(first), "policy": upload.policy}
    )
    staged = staging.stage_files(ui.home, upload.paths) if others else staging.stage(ui.home, first)
    more = f" +{len(others)}" if others else ""
    data = {
        "staged": staged,
        "source_name": first.name[-290:] + more,
        "name": upload.name or name_of(first),
        "policy": upload.policy,
    }
    return queue(ui, data)


def fetch(ui: Ui, hub: str, name: str, policy: str) -> Job:
    """Queue the import of a dataset of the hub.

    Raises:
        ProblemError: what was said about it is wrong.
    """
    told = {"hub": hub, "source_name": hub, "name": name or hub.rpartition("/")[2][:120], "policy": policy}
    return queue(ui, {**told, "staged": uuid.uuid4().hex})


def queue(ui: Ui, data: Mapping[str, Any]) -> Job:
    """Queue an import and show it on the page; `data` is its spec, untrusted.

    Raises:
        ProblemError: with every problem of the spec.
    """
    with ui.store.write() as session:
        job = dataorders.order(session, "import", str(data["name"]), data)
        watch(session, PAGE, job.id)
    return job


def forget_original(ui: Ui, path: Path) -> None:
    """Delete the browser's upload once there is a copy of our own: Gradio keeps each in a folder of its own."""
    removal.delete_folder(path.resolve().parent, below=ui.home.staging)


def add_samples(ui: Ui) -> list[Job]:
    """Queue the import of the datasets that come with the studio."""
    return [take_in(ui, Upload([SAMPLES / f"{name}.jsonl"])) for name in SAMPLE_NAMES]


def name_of(path: Path) -> str:
    """Return a dataset's name from its file's.

    >>> name_of(Path("support tickets (2).jsonl")), name_of(Path("..."))
    ('support tickets (2)', 'dataset')
    """
    return re.sub(r"[^\w .()+-]+", "_", path.stem).strip(" ._")[:120] or "dataset"
