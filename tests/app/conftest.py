"""A home with a real store, runs written through it, and the whole application behind its guard."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet as pq
import pytest
from starlette.testclient import TestClient

from app import auth
from app.main import build_app
from app.security import Policy
from app.ui import Ui
from engine.specs.home import Home
from storage import checkpoints, datasets, jobs, metrics, models, requests, workers
from storage.checkpoints import NewCheckpoint
from storage.database import Store, open_store
from storage.datasets import NewVersion, Version
from storage.jobs import Claim, Holder, Job, Settlement
from storage.metrics import Point
from storage.models import Model, NewModel
from storage.workers import NewWorker

ADDRESS = "http://127.0.0.1:7860"
PASSWORD = "correct horse"
HOLDER = Holder("worker-1", "laptop", "boot-1")


def spec_of(name: str = "tone", **changes: Any) -> dict[str, Any]:
    """A training run's spec, changed by dotted paths."""
    spec: dict[str, Any] = {
        "schema_version": 1,
        "name": name,
        "model": {"id": "starter", "quantization": "nf4"},
        "data": {"dataset": "tickets", "version": 1},
        "objective": {"kind": "sft"},
        "tuner": {"kind": "lora", "rank": 16},
        "training": {"epochs": 3.0, "learning_rate": 2e-4},
    }
    for path, value in changes.items():
        section, _, key = path.partition("__")
        spec[section][key] = value
    return spec


@contextmanager
def home_in(folder: Path) -> Iterator[tuple[Home, Store]]:
    home = Home(folder, f"sqlite:///{folder / 'store.db'}").ensure()
    store = open_store(home.store_url)
    try:
        yield home, store
    finally:
        store.dispose()


@pytest.fixture
def ui(tmp_path: Path) -> Iterator[Ui]:
    with home_in(tmp_path / "home") as (home, store):
        yield Ui(store, home, "en")


class Runs:
    """Writes runs as a worker and a trainer would."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def submit(self, name: str = "tone", **changes: Any) -> Job:
        with self.store.write() as session:
            return jobs.submit(session, kind="train", name=name, spec=spec_of(name, **changes), lane="gpu")

    def claim(self) -> Claim:
        with self.store.write() as session:
            taken = jobs.claim(session, HOLDER, lanes=["gpu"], lease_s=3600)
            assert taken is not None
            jobs.started(session, taken[0], pid=1, pid_start=1.0)
            jobs.resumed(session, taken[0], 0)
            return taken[0]

    def train(
        self, claim: Claim, upto: int, *, total: int, first: int = 1, **curves: Callable[[int], float | None]
    ) -> None:
        named = {"loss": lambda step: 2.0 / step, **curves}
        for step in range(first, upto + 1):
            points = [Point(name.replace("__", "/"), step, value(step)) for name, value in named.items()]
            with self.store.write() as session:
                metrics.append(session, claim, points)
                jobs.progress(session, claim, phase="training", step=step, total=total)

    def save(self, claim: Claim, step: int, eval_loss: float | None = None, *, num_bytes: int = 1000) -> None:
        new = NewCheckpoint(
            step=step, path=f"/runs/{step}", manifest_sha="0" * 64, bytes=num_bytes, base_path="/models/starter",
            quantization="nf4", dtype="bfloat16", is_adapter=True, eval_loss=eval_loss,
        )  # fmt: skip
        with self.store.write() as session:
            if eval_loss is not None:
                metrics.append(session, claim, [Point("eval_loss", step, eval_loss)])
            checkpoints.add(session, claim, new)

    def settle(self, claim: Claim, state: Any, reason: str = "done", **more: Any) -> Job:
        with self.store.write() as session:
            return jobs.settle(session, claim, Settlement(state, reason=reason, **{"values": {}, **more}))


@pytest.fixture
def runs(ui: Ui) -> Runs:
    return Runs(ui.store)


@contextmanager
def client_of(folder: Path, policy: Policy) -> Iterator[TestClient]:
    with (
        home_in(folder) as (home, store),
        TestClient(build_app(home, store, policy), base_url=ADDRESS, follow_redirects=False) as client,
    ):
        client.store = store  # type: ignore[attr-defined]
        client.home = home  # type: ignore[attr-defined]
        yield client


@pytest.fixture(scope="session")
def open_client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """The application without a password, as on a laptop."""
    with client_of(tmp_path_factory.mktemp("open"), Policy(upload_bytes=1_000_000)) as client:
        yield client


@pytest.fixture(scope="session")
def guarded_client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """The application with a password, made once."""
    policy = Policy(password=auth.hash_password(PASSWORD), names=frozenset({"studio.example"}))
    with client_of(tmp_path_factory.mktemp("guarded"), policy) as client:
        yield client


@pytest.fixture
def guarded(guarded_client: TestClient) -> TestClient:
    """The application with a password; nobody is logged in, whatever an earlier test did."""
    guarded_client.cookies.clear()
    return guarded_client


class Shelf:
    """Puts datasets, models, a worker and answers of the preview child where the pages look for them."""

    def __init__(self, ui: Ui) -> None:
        self.ui = ui

    def dataset(
        self, name: str = "tickets", *, rows: int = 12, row_kind: str = "conversation", **facts: Any
    ) -> Version:
        made = {"conversation": _conversation, "preference": _preference}[row_kind]
        folder = self.ui.home.datasets / f"{name}-{rows}"
        folder.mkdir()
        pq.write_table(pyarrow.Table.from_pylist([made(place) for place in range(rows)]), folder / "rows.parquet")
        new = NewVersion(
            name=name, sha256=folder.name, path=str(folder / "rows.parquet"), row_kind=row_kind, format="messages",
            rows=rows, usable_rows=rows, bytes=1000, source_name=f"{name}.jsonl", **facts,
        )  # fmt: skip
        with self.ui.store.write() as session:
            return datasets.add_version(session, new)

    def model(self, name: str = "starter", **facts: Any) -> Model:
        folder = self.ui.home.models / name
        folder.mkdir()
        known = {"path": str(folder), "source": "folder", "bytes": 1000, "parameters": 135_000_000, **facts}
        with self.ui.store.write() as session:
            return models.add(session, NewModel(name=name, **known))

    def worker(self) -> None:
        device = {"kind": "cpu", "cores": 2, "memory_bytes": 8_000_000_000}
        with self.ui.store.write() as session:
            workers.add(session, NewWorker("laptop", 1, 1.0, "boot-1", [device]))

    def answer(self, answer: dict[str, Any] | None, *problems: dict[str, Any]) -> requests.Request:
        """Answer the oldest question as the preview child would."""
        with self.ui.store.write() as session:
            asked = requests.take(session)
            assert asked is not None
            if answer is None:
                requests.fail(session, asked.id, list(problems))
            else:
                requests.answer(session, asked.id, answer)
        return asked


def _conversation(place: int) -> dict[str, Any]:
    asked = {"role": "user", "content": f"question {place} <script>", "train": None}
    return {"messages": [asked, {"role": "assistant", "content": f"answer {place}", "train": None}], "split": None}


def _preference(place: int) -> dict[str, Any]:
    def said(role: str, content: str) -> list[dict[str, Any]]:
        return [{"role": role, "content": content, "train": None}]

    sides = {"chosen": said("assistant", f"good {place}"), "rejected": said("assistant", f"bad {place}")}
    return {"prompt": said("user", f"question {place}"), **sides, "split": "test"}


@pytest.fixture
def shelf(ui: Ui) -> Shelf:
    return Shelf(ui)
