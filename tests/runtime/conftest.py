"""A home with a store, a model, a dataset and finished runs, made without training."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from engine.runtime import checkpoints as checkpoint_files
from engine.specs.home import Home
from storage import checkpoints, datasets, jobs, models
from storage.checkpoints import NewCheckpoint
from storage.database import Store, open_store
from storage.datasets import NewVersion
from storage.jobs import Holder, Settlement
from storage.models import NewModel
from storage.states import State

HOLDER = Holder("test-worker", "test-host", "test-boot")


@dataclass
class Studio:
    """What a test needs to have happened before."""

    home: Home
    store: Store
    bases: dict[str, Path] = field(default_factory=dict)

    def add_base(self, name: str, folder: Path, **facts: Any) -> None:
        """List a model."""
        new = NewModel(name=name, path=str(folder), source="folder", bytes=1, licence="apache-2.0", facts=facts)
        with self.store.write() as session:
            models.add(session, new)
        self.bases[name] = folder

    def add_rows(self, name: str, rows: list[dict[str, Any]], *, kind: str = "conversation") -> None:
        """Store rows as a dataset's version."""
        from engine.data.rows import RowWriter

        path = self.home.datasets / f"{name}.parquet"
        with RowWriter(path, kind) as writer:
            for row in rows:
                writer.add(row)
        new = NewVersion(
            name=name,
            sha256=writer.sha256,
            path=str(path),
            row_kind=kind,
            format="messages",
            rows=len(rows),
            usable_rows=len(rows),
            bytes=path.stat().st_size,
            source_name="rows.jsonl",
        )
        with self.store.write() as session:
            datasets.add_version(session, new)

    def add_run(self, base: str, write: Any, *, step: int = 10, quantization: str = "none", **spec: Any) -> int:
        """A run that has ended with one checkpoint, whose files `write(folder)` makes."""
        is_adapter, head = spec.pop("is_adapter", True), spec.pop("head", "language")
        dtype = spec.pop("dtype", "float32")
        told = {
            "name": "run",
            "model": {"id": base, "quantization": quantization},
            "data": {"dataset": "rows", "max_length": 256},
            "objective": {"kind": "sft"},
            "tuner": {"kind": "lora" if is_adapter else "full"},
            "training": {"learning_rate": 2e-4},
            **spec,
        }
        with self.store.write() as session:
            job = jobs.submit(session, kind="train", name=told["name"], spec=told, lane="gpu")
            claimed = jobs.claim(session, HOLDER, lanes=["gpu"], lease_s=600)
        assert claimed is not None and claimed[0].job_id == job.id
        claim = claimed[0]
        folder, manifest = checkpoint_files.save(
            self.home.runs / str(job.id) / str(claim.token), write, step=step, token=claim.token, spec=told
        )
        new = NewCheckpoint(
            step=step,
            path=str(folder),
            manifest_sha=manifest.sha256,
            bytes=manifest.num_bytes,
            base_path=str(self.bases[base]) if is_adapter else str(folder),
            quantization=quantization,
            dtype=dtype,
            is_adapter=is_adapter,
            eval_loss=0.5,
            head=head,
        )
        with self.store.write() as session:
            checkpoints.add(session, claim, new)
            jobs.settle(session, claim, Settlement(state=State.SUCCEEDED, reason="done", exit_code=0))
        return job.id

    def claim_job(self, kind: str, spec: dict[str, Any]) -> tuple[int, int]:
        """Submit a job and claim it as a worker does; returns its id and token."""
        with self.store.write() as session:
            job = jobs.submit(session, kind=kind, name=kind, spec=spec, lane="cpu")
            claimed = jobs.claim(session, HOLDER, lanes=["cpu"], lease_s=600)
        assert claimed is not None and claimed[0].job_id == job.id
        return job.id, claimed[0].token

    def run_child(self, kind: str, spec: dict[str, Any], *, seconds: float = 240) -> tuple[int, dict[str, Any]]:
        """Run a job's process to its end; returns the exit code and the marker it left."""
        import os
        import subprocess
        import sys

        from engine.specs.kinds import KINDS

        job_id, token = self.claim_job(kind, spec)
        done = subprocess.run(
            [sys.executable, "-m", KINDS[kind].module, str(job_id), str(token)],
            env={**os.environ, "ATELIER_HOME": str(self.home.root), "PYTHONPATH": str(Path(__file__).parents[2])},
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        marker = self.home.runs / str(job_id) / str(token) / "result.json"
        said = json.loads(marker.read_text()) if marker.exists() else {"stderr": done.stderr}
        return done.returncode, said


@pytest.fixture
def studio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Studio]:
    """An empty home of its own."""
    monkeypatch.setenv("ATELIER_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("ATELIER_STORE", raising=False)
    monkeypatch.setenv("ATELIER_TORCH_THREADS", "1")  # two on a shared machine wait for each other: ten times slower
    home = Home.from_environment().ensure()
    store = open_store(home.store_url)
    yield Studio(home, store)
    store.dispose()


@pytest.fixture(scope="session")
def write_adapter():
    """Makes a function that writes an adapter for a base, changing every answer beyond doubt."""

    def writer(base: Path, *, seed: int, strength: float = 0.5) -> Any:
        def write(folder: Path) -> None:
            import torch
            from peft import LoraConfig, get_peft_model

            from engine.models.loading import load_model

            torch.manual_seed(seed)
            settings = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
            model = get_peft_model(load_model(base, dtype="float32"), settings)
            for name, value in model.named_parameters():
                if "lora_B" in name:
                    torch.nn.init.normal_(value, std=strength)
            model.save_pretrained(str(folder))

        return write

    return writer
