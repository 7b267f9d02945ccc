"""The versions of the program and of what it stands on, without importing any of it."""

from __future__ import annotations

import importlib.metadata
import platform
import sqlite3

PACKAGES = (
    "torch",
    "transformers",
    "peft",
    "trl",
    "accelerate",
    "bitsandbytes",
    "datasets",
    "safetensors",
    "gradio",
    "sqlalchemy",
    "pydantic",
    "pyarrow",
)


def of(name: str) -> str | None:
    """Return the version of an installed package; None where it is not installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


ATELIER = of("atelier") or "0.1.0"


def found() -> dict[str, str]:
    """Return all versions by name."""
    own = {"atelier": ATELIER, "python": platform.python_version(), "sqlite": sqlite3.sqlite_version}
    return {**own, **{name: version for name in PACKAGES if (version := of(name)) is not None}}
