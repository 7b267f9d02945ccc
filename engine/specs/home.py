"""Home: the one folder in which everything of a studio lives."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


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
    def models(self) -> Path:
        return self.root / "models"

    @property
    def runs(self) -> Path:
        return self.root / "runs"

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
    def password_file(self) -> Path:
        """The hash of the password that the Settings page set."""
        return self.root / "password"

    @property
    def token_file(self) -> Path:
        """The hub token that the Settings page was given; the worker reads it for the downloader alone."""
        return self.root / "hub_token"

    def log(self, job_id: int) -> Path:
        """The captured output of a job's processes."""
        return self.logs / f"job-{job_id}.log"

    def ensure(self) -> Home:
        """Make the folders, readable by their owner alone.

        Raises:
            OSError: a folder cannot be made or entered.
        """
        for folder in (self.root, self.datasets, self.models, self.runs, self.exports, self.logs, self.staging):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self


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
