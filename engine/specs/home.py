"""Home: the one folder in which everything of a studio lives."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

HOST_NAME = "ATELIER_HOST_NAME"
"""Replaces the name of the machine, where two machines of one store bear the same."""


def host_name() -> str:
    """The name of this machine, under which its workers, locks and processes are known to the others."""
    return os.environ.get(HOST_NAME) or socket.gethostname()


@dataclass(frozen=True, slots=True)
class Home:
    """The folders of a studio and the address of its store."""

    root: Path
    store_url: str

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Home:
        """Read `ATELIER_HOME` (default `~/.atelier`) and `ATELIER_STORE` (default a SQLite file in the home)."""
        root = Path(environment.get("ATELIER_HOME") or Path.home() / ".atelier").expanduser().absolute()
        return cls(root, environment.get("ATELIER_STORE") or f"sqlite:///{root / 'store.db'}")

    @property
    def datasets(self) -> Path:
        return self.root / "datasets"

    @property
    def references(self) -> Path:
        """What models that runs start from say about rows: computed once, and made anew where it is gone."""
        return self.datasets / "references"

    @property
    def models(self) -> Path:
        return self.root / "models"

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    @property
    def compiled(self) -> Path:
        """Code that was made for the layers of models: made anew where it is gone."""
        return self.root / "compiled"

    @property
    def caches(self) -> tuple[Path, ...]:
        """What is made anew when it is needed: rows as tokens, what starts say of rows, code of layers."""
        return (self.datasets / "tokens", self.references, self.compiled)

    @property
    def exports(self) -> Path:
        return self.root / "exports"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def staging(self) -> Path:
        return self.root / "staging"

    @property
    def locks(self) -> Path:
        """The lock files of this host: hosts may share the home, and a lock holds between processes of one host."""
        return self.root / "locks" / (re.sub(r"[^A-Za-z0-9._-]", "_", host_name()).strip(".") or "_")

    @property
    def worker_lock(self) -> Path:
        """Held by the worker of this host."""
        return self.locks / "worker.lock"

    @property
    def ui_lock(self) -> Path:
        """Held by the web server of this host."""
        return self.locks / "ui.lock"

    def run_lock(self, job_id: int) -> Path:
        """Held by a job's processes on this host, as long as one of them lives."""
        return self.locks / f"run-{job_id}.lock"

    @property
    def password_file(self) -> Path:
        """The hash of the password that the Settings page set."""
        return self.root / "password"

    @property
    def token_file(self) -> Path:
        """The hub token that the Settings page was given; the worker reads it for the downloader alone."""
        return self.root / "hub_token"

    @property
    def endpoint_key_file(self) -> Path:
        """A host and the key for it, that the Settings page was given; only what drafts rows reads it."""
        return self.root / "endpoint_key"

    def log(self, job_id: int) -> Path:
        """The captured output of a job's processes."""
        return self.logs / f"job-{job_id}.log"

    def ensure(self) -> Home:
        """Make the folders, readable by their owner alone.

        Raises:
            OSError: a folder cannot be made or entered.
        """
        ours = (self.root, self.datasets, self.models, self.runs, self.exports, self.logs, self.staging)
        for folder in (*ours, self.locks.parent, self.locks):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self

    def is_new(self) -> bool:
        """Whether no run has left files here: with some, a store that is missing was lost, and none is made anew."""
        return not self.runs.is_dir() or not any(self.runs.iterdir())


def inside(root: Path, name: str) -> Path:
    """Return `root / name` if it stays below `root` after links are resolved.

    Raises:
        ValueError: the name is empty, absolute, holds a NUL, or leads outside.
    """
    if not name or "\0" in name:
        raise ValueError(f"not a file name: {name!r}")
    path = (root / name).resolve()
    if path == root.resolve() or not path.is_relative_to(root.resolve()):
        raise ValueError(f"{name!r} leads outside {root.name!r}")
    return path
