"""A home with the tiny model, rows of both samples and a worker, for tests that train."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.data.importer import store_rows
from engine.runtime import worker as worker_module
from engine.runtime.settings import Settings
from engine.runtime.worker import Worker
from engine.specs.home import Home
from engine.specs.job import parse
from storage import checkpoints as rows
from storage import datasets, jobs, metrics, models
from storage.database import open_store
from storage.datasets import NewVersion
from storage.models import NewModel
from tests.fakes.no_helpers import NoHelpers

FAST = Settings(lease_s=20.0, grace_s=60.0, backoff_s=0.05, poll_s=0.02)
SAMPLES = Path(__file__).resolve().parents[2] / "assets" / "samples"
NUM_PAIRS = 60
"""All are compared with the start's model before the first step: a third of the sample is enough to learn from."""


class Room:
    """A home with the tiny model, rows of both samples and a worker."""

    def __init__(self, home: Home) -> None:
        self.home, self.store = home, open_store(home.store_url)
        self.worker = Worker(home, self.store, FAST)

    def submit(self, **changes) -> int:
        data = {
            "name": "tiny",
            "model": {"id": "tiny", "dtype": "float32"},
            "data": {"dataset": "tickets", "max_length": 128, "eval_fraction": 0.05},
            "objective": {"kind": "sft"},
            "tuner": {"kind": "lora", "rank": 4},
            "training": {
                "learning_rate": 1e-3,
                "max_steps": 8,
                "eval_every_steps": 3,
                "batch_size": 2,
                "gradient_accumulation": 2,
                "precision": "fp32",
            },
        }
        for section, values in changes.items():
            data[section] = (
                {**data[section], **values}
                if isinstance(values, dict) and section not in ("objective", "tuner")
                else values
            )
        spec = parse(data).model_dump(mode="json")
        with self.store.write() as session:
            return jobs.submit(session, kind="train", name="tiny", spec=spec, lane="gpu").id

    def job(self, job_id):
        with self.store.read() as session:
            return jobs.get(session, job_id)

    def work(self, until, seconds=150):
        deadline = time.monotonic() + seconds
        while not until():
            assert time.monotonic() < deadline, "not reached in time"
            self.worker.tick()
            time.sleep(0.02)

    def finish(self, job_id, seconds=150):
        self.work(lambda: self.job(job_id).state not in ("queued", "running"), seconds)
        return self.job(job_id)

    def train(self, seconds=150, **changes):
        return self.finish(self.submit(**changes), seconds)

    def checkpoints(self, job_id):
        with self.store.read() as session:
            return rows.listing(session, job_id)

    def curve(self, job_id, name="loss"):
        with self.store.read() as session:
            return metrics.series(session, job_id).get(name, [])

    def curves(self, job_id):
        """Every curve but those of time and memory."""
        with self.store.read() as session:
            found = metrics.series(session, job_id)
        return {name: points for name, points in found.items() if name not in ("tokens_per_second", "memory_bytes")}

    def attempts(self, job_id):
        with self.store.read() as session:
            return jobs.attempts(session, job_id)

    def events(self, job_id, kind):
        with self.store.read() as session:
            return [one for one in jobs.events(session, job_id) if one.kind == kind]

    def weights(self, job_id):
        """The bytes of the newest checkpoint's weights, by file."""
        folder = Path(self.checkpoints(job_id)[-1].path)
        return {path.name: path.read_bytes() for path in sorted(folder.glob("*.safetensors"))}

    def log(self, job_id):
        path = self.home.log(job_id)
        return path.read_text()[-3000:] if path.exists() else ""


@contextlib.contextmanager
def make_room(model: Path, root: Path, patch: pytest.MonkeyPatch) -> Iterator[Room]:
    """Make the home; what still runs at the end is killed."""
    patch.setenv("ATELIER_HOME", str(root))
    patch.setenv("ATELIER_TORCH_THREADS", "1")  # sums in one order: equal to the last bit, whatever else runs
    patch.setattr(worker_module, "Helpers", NoHelpers)
    home = Home.from_environment().ensure()
    made = Room(home)
    with made.store.write() as session:
        models.add(session, NewModel(name="tiny", path=str(model), source="folder", bytes=1))
    add_rows(made, "tickets", SAMPLES / "tickets.jsonl")
    pairs = (SAMPLES / "preferences.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)[:NUM_PAIRS]
    (root / "preferences.jsonl").write_text("".join(pairs), encoding="utf-8")
    add_rows(made, "preferences", root / "preferences.jsonl")
    try:
        yield made
    finally:
        for item in list(made.worker.running.values()):
            item.child.kill()
        made.store.dispose()


def add_rows(room: Room, name: str, path: Path) -> None:
    """Store a file of rows as a dataset."""
    stored = store_rows(path, room.home.datasets)
    found = stored.inspection
    new = NewVersion(
        name=name, sha256=stored.sha256, path=str(stored.path), row_kind=found.row_kind, format=found.format,
        rows=found.rows, usable_rows=found.usable_rows, bytes=stored.bytes, source_name=path.name,
    )  # fmt: skip
    with room.store.write() as session:
        datasets.add_version(session, new)
