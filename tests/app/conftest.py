"""A home with a real store, runs written through it, and the whole application behind its guard."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from app import auth
from app.main import build_app
from app.security import Policy
from app.ui import Ui
from engine.specs.home import Home
from storage import checkpoints, jobs, metrics
from storage.checkpoints import NewCheckpoint
from storage.database import Store, open_store
from storage.jobs import Claim, Holder, Job, Settlement
from storage.metrics import Point

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

    def train(self, claim: Claim, upto: int, *, total: int, first: int = 1, **curves: Callable[[int], float | None]) -> None:
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
    with home_in(folder) as (home, store):
        with TestClient(build_app(home, store, policy), base_url=ADDRESS, follow_redirects=False) as client:
            client.store = store  # type: ignore[attr-defined]
            client.home = home  # type: ignore[attr-defined]
            yield client


@pytest.fixture(scope="session")
def open_client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """The application without a password, as on a laptop."""
    with client_of(tmp_path_factory.mktemp("open"), Policy(upload_bytes=1_000_000)) as client:
        yield client


@pytest.fixture(scope="session")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """The application with a password; nobody is logged in."""
    policy = Policy(password=auth.hash_password(PASSWORD), names=frozenset({"studio.example"}))
    with client_of(tmp_path_factory.mktemp("guarded"), policy) as client:
        yield client
