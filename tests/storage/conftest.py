"""A real store for every test, once on SQLite and once on PostgreSQL: migrated once, then copied."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from storage import jobs, models
from storage.checkpoints import NewCheckpoint
from storage.database import Store, open_store
from storage.datasets import NewVersion
from storage.job_values import job
from storage.jobs import Claim, Holder, Job
from storage.models import Model, NewModel

WORKER = Holder("worker-a", "host-a", "boot-a")


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "store.db"
    open_store(f"sqlite:///{path}").dispose()
    return path


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, empty_database: Path, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        shutil.copy(empty_database, tmp_path / "store.db")
        yield f"sqlite:///{tmp_path / 'store.db'}"
        return
    with request.getfixturevalue("postgres").database() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A store that is still to be made."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'store.db'}"
        return
    with request.getfixturevalue("postgres").empty_database() as url:
        yield url


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    opened = open_store(store_url)
    yield opened
    opened.dispose()


@pytest.fixture
def submit(store: Store) -> Callable[..., Job]:
    """Submits a job; keywords are its options."""

    def submit_one(name: str = "run", *, lane: Any = "gpu", spec: dict[str, Any] | None = None, **options: Any) -> Job:
        with store.write() as session:
            chosen = jobs.SubmitOptions(**options)
            return jobs.submit(session, kind="train", name=name, spec=spec or {}, lane=lane, options=chosen)

    return submit_one


@pytest.fixture
def claim(store: Store) -> Callable[..., Claim]:
    """Claims the next job, which must be there."""

    def claim_next(lanes: tuple[str, ...] = ("gpu", "cpu"), lease_s: float = 60.0) -> Claim:
        with store.write() as session:
            taken = jobs.claim(session, WORKER, lanes=lanes, lease_s=lease_s)
        assert taken is not None
        return taken[0]

    return claim_next


@pytest.fixture
def running(submit: Callable[..., Job], claim: Callable[..., Claim]) -> Claim:
    """The claim of a job that runs."""
    submit()
    return claim()


@pytest.fixture
def read(store: Store) -> Callable[..., Any]:
    """Calls a storage function in a transaction of its own that reads."""

    def call(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        with store.read() as session:
            return function(session, *arguments, **options)

    return call


@pytest.fixture
def write(store: Store) -> Callable[..., Any]:
    """Calls a storage function in a transaction of its own that writes."""

    def call(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        with store.write() as session:
            return function(session, *arguments, **options)

    return call


@pytest.fixture
def age(store: Store) -> Callable[..., None]:
    """Moves the lease of a job into the past, as if time had gone by."""

    def age_lease(job_id: int, seconds: float) -> None:
        with store.write() as session:
            session.execute(update(job).where(job.c.id == job_id).values(lease_until=job.c.lease_until - seconds))

    return age_lease


@pytest.fixture
def model(write: Callable[..., Any]) -> Model:
    added: Model = write(models.add, NewModel("starter", "/models/starter", "package", 100, facts={"dtype": "float32"}))
    return added


@pytest.fixture
def new_checkpoint() -> Callable[..., NewCheckpoint]:
    def make(step: int, **facts: Any) -> NewCheckpoint:
        path = f"/runs/1/1/checkpoint-{step}"
        base = {"base_path": "/models/starter", "quantization": "nf4", "dtype": "bfloat16", "is_adapter": True}
        return NewCheckpoint(**{"step": step, "path": path, "manifest_sha": "ab", "bytes": 10, **base, **facts})

    return make


@pytest.fixture
def new_version() -> Callable[..., NewVersion]:
    def make(name: str = "tickets", sha256: str = "aa", **facts: Any) -> NewVersion:
        base = {"path": f"/datasets/{sha256}", "row_kind": "conversation", "format": "messages"}
        size = {"rows": 3, "usable_rows": 2, "bytes": 9, "source_name": "t.jsonl"}
        return NewVersion(**{"name": name, "sha256": sha256, **base, **size, **facts})

    return make
