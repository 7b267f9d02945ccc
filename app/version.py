"""The version of the program: of the installed package, else of the sources beside it."""

from __future__ import annotations

import importlib.metadata


def _installed() -> str:
    try:
        return importlib.metadata.version("atelier")
    except importlib.metadata.PackageNotFoundError:
        return "0.1.0"


VERSION = _installed()
