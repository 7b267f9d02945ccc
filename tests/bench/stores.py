"""Both stores, each new and empty, for the measurements."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from storage.database import Store, open_store
from tests.postgres import cluster

NAMES = ("sqlite", "postgresql")


@contextmanager
def store_of(name: str) -> Iterator[Store]:
    """A new store on SQLite or on a PostgreSQL of its own, both flushing each commit to the disk."""
    if name == "sqlite":
        with tempfile.TemporaryDirectory() as folder:
            store = open_store(f"sqlite:///{Path(folder) / 'store.db'}")
            yield store
            store.dispose()
        return
    with cluster() as server, server.database() as url:
        store = open_store(url)
        yield store
        store.dispose()
