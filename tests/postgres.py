"""A PostgreSQL cluster of the tests' own, and databases copied from one that was migrated once.

The server refuses to run as root: there it runs as the user `postgres`. It keeps fsync on.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from storage.database import open_store

SETTINGS = """
listen_addresses = ''
unix_socket_directories = '{folder}'
max_connections = 300
shared_buffers = 64MB
fsync = on
synchronous_commit = on
autovacuum = off
"""
TEMPLATE = "migrated"
END = 'read _; "$0" -D "$1/data" -m immediate stop; rm -rf "$1"'
"""Waits for the end of our side of its input, also where we are killed, and clears up."""


def binaries() -> Path | None:
    """The folder with the newest server's programs; None where there is none."""
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name), reverse=True)
    if found := shutil.which("postgres"):
        places.append(Path(found).resolve().parent)
    return next((place for place in places if (place / "initdb").is_file()), None)


class Cluster:
    """A running server in a folder of its own, reached through a socket there."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self._folder, self._programs = folder, programs
        self._as: dict[str, Any] = {"user": "postgres", "group": "postgres"} if os.geteuid() == 0 else {}
        self._made = 0
        self._call("initdb", "--no-sync", "--auth=trust", "--username=atelier", "--encoding=UTF8", "--locale=C")
        with (folder / "data" / "postgresql.conf").open("a") as file:
            file.write(SETTINGS.format(folder=folder))
        self.start()

    def start(self) -> None:
        self._control("start")

    def keeper(self) -> subprocess.Popen[bytes]:
        """A process that ends the server and removes its folder when we end, however we end."""
        command = ["/bin/sh", "-c", END, str(self._programs / "pg_ctl"), str(self._folder)]
        quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": "/"}
        return subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True, **quiet, **self._as)

    def stop(self, mode: str = "fast") -> None:
        """`smart`, `fast`, or `immediate`: as a crash does."""
        self._control("stop", "-m", mode)

    def restart(self, mode: str = "immediate") -> None:
        self._control("restart", "-m", mode)

    def url(self, database: str) -> str:
        return f"postgresql+psycopg://atelier@/{database}?host={self._folder}"

    def execute(self, statement: str, *values: Any, database: str = "postgres") -> list[Any]:
        """Runs a statement as the server's owner; its rows."""
        address = f"host={self._folder} user=atelier dbname={database}"
        with psycopg.connect(address, autocommit=True) as connection:
            cursor = connection.execute(statement, values or None)
            return cursor.fetchall() if cursor.description else []

    def terminate(self, database: str) -> int:
        """Ends every connection to a database, whatever it is doing; returns how many."""
        ended = self.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()",
            database,
        )
        return len(ended)

    @contextmanager
    def empty_database(self) -> Iterator[str]:
        """The URL of a database without any tables."""
        with self._database("template1") as url:
            yield url

    @contextmanager
    def database(self) -> Iterator[str]:
        """The URL of a database with the newest schema."""
        if not self.execute("SELECT 1 FROM pg_database WHERE datname = %s", TEMPLATE):
            self.execute(f"CREATE DATABASE {TEMPLATE}")
            open_store(self.url(TEMPLATE)).dispose()
        with self._database(TEMPLATE) as url:
            yield url

    @contextmanager
    def _database(self, template: str) -> Iterator[str]:
        self._made += 1
        name = f"test_{self._made}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        try:
            yield self.url(name)
        finally:
            self.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def _control(self, *arguments: str) -> None:
        self._call("pg_ctl", "--wait", "--timeout=60", f"--log={self._folder / 'log'}", *arguments)

    def _call(self, program: str, *arguments: str) -> None:
        command = [str(self._programs / program), "-D", str(self._folder / "data"), *arguments]
        output = self._folder / f"{program}.out"
        with output.open("ab") as said:  # not a pipe: the server would keep it open
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, cwd=self._folder, check=False, **self._as
            )
        if done.returncode != 0:
            raise RuntimeError(f"{program} ended with {done.returncode}: {output.read_text(errors='replace')}")


@contextmanager
def cluster() -> Iterator[Cluster]:
    """A cluster for as long as the context lasts."""
    programs = binaries()
    if programs is None:
        pytest.skip("PostgreSQL is missing: install its server, such as the package `postgresql`")
    folder = Path(tempfile.mkdtemp(prefix="atelier-pg-"))
    try:
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres", "postgres")
        one = Cluster(folder, programs)
        with one.keeper():  # leaving closes its input and waits for it
            yield one
    finally:
        shutil.rmtree(folder, ignore_errors=True)
