"""`atelier check`: looks at everything a studio needs and names every problem at once."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import typer

from app import measure, starter, versions
from app.commands import exits, processes
from app.commands.shell import AsJson, columns, describe, document, put, refusals, say
from app.commands.speech import speech
from app.devices import seen
from app.refusal import problems_of
from engine.specs.home import Home
from engine.specs.problem import Problem, problem
from storage.database import Store, open_store
from storage.errors import StoreError

t = speech()
SAFE_SQLITE = (3, 51, 3)
"""Before it, two connections that checkpoint the write-ahead log at one instant can corrupt the database."""
LOW_DISK_BYTES = 5 * 10**9
LOW_MEMORY_BYTES = 4 * 10**9
WARNINGS = ("check_sqlite_old", "check_disk_low", "check_memory_low", "check_starter_missing", "check_no_worker")


def check(json: AsJson = False) -> None:
    with refusals(json):
        home = Home.from_environment()
        found = [*folders(home), *libraries(), *old_sqlite(home)]
        blocked = any(one.code == "home_unusable" for one in found)
        store, trouble = (None, []) if blocked else _opened(home)
        try:
            found += [*trouble, *machine(home), *(contents(store) if store else [])]
            devices_ = devices(store)
        finally:
            if store is not None:
                store.dispose()
    bad = [one for one in found if one.code not in WARNINGS]
    said = {
        "ok": not bad,
        "problems": [{**document(t, one), "warning": one.code in WARNINGS} for one in found],
        "devices": devices_,
        "versions": versions.found(),
        "home": str(home.root),
    }
    if json:
        put(_dump(said))
    else:
        _tell(said, found)
    if bad:
        raise typer.Exit(max(exits.of_code(one.code) for one in bad))


def libraries() -> Iterator[Problem]:
    """Name packages that are missing."""
    missing = [name for name in versions.PACKAGES if versions.of(name) is None]
    if missing:
        yield problem("internal_packages_missing", names=", ".join(missing))


def old_sqlite(home: Home) -> Iterator[Problem]:
    """Name a SQLite that can damage a store which several processes use, where the store is one."""
    if home.store_url.startswith("sqlite") and sqlite3.sqlite_version_info < SAFE_SQLITE:
        yield problem("check_sqlite_old", given=sqlite3.sqlite_version, needed=".".join(map(str, SAFE_SQLITE)))


def folders(home: Home) -> Iterator[Problem]:
    """Name folders that cannot be made or that others can read."""
    try:
        home.ensure()
    except OSError as error:
        yield problem("home_unusable", folder=str(home.root), detail=error.strerror or str(error))
        return
    ours = (home.root, home.datasets, home.models, home.runs, home.exports, home.logs, home.staging, home.locks)
    for folder in ours:
        if folder.stat().st_mode & 0o077:
            yield problem("home_open_to_others", folder=str(folder))
        if not _can_write(folder):
            yield problem("home_unusable", folder=str(folder), detail=t("cli.no_permission"))


def machine(home: Home) -> Iterator[Problem]:
    """Name what is short on this machine."""
    if home.root.is_dir() and (free := shutil.disk_usage(home.root).free) < LOW_DISK_BYTES:
        yield problem("check_disk_low", free=measure.size(free), folder=str(home.root))
    if (memory := psutil.virtual_memory().available) < LOW_MEMORY_BYTES:
        yield problem("check_memory_low", free=measure.size(memory))


def contents(store: Store) -> Iterator[Problem]:
    """Name what the store lacks."""
    with store.read() as session:
        if not starter.is_there(session):
            yield problem("check_starter_missing")
    if processes.live_worker(store) is None:
        yield problem("check_no_worker")


def devices(store: Store | None) -> list[dict[str, Any]]:
    """Return what a live worker computes on, else what can be seen without loading torch."""
    if store is not None and (found := processes.live_worker(store)) is not None:
        return list(found.devices)
    return seen()


def _opened(home: Home) -> tuple[Store | None, list[Problem]]:
    try:
        return open_store(home.store_url, create=home.is_new()), []
    except StoreError as error:
        return None, list(problems_of(error))


def _can_write(folder: Path) -> bool:
    trial = folder / ".check"
    try:
        trial.touch(mode=0o600)
        trial.unlink()
    except OSError:
        return False
    return True


def _dump(said: dict[str, Any]) -> str:
    import json

    return json.dumps(said, ensure_ascii=False, indent=2)


def _tell(said: dict[str, Any], found: Sequence[Problem]) -> None:
    rows: Iterable[Sequence[object]] = [*said["versions"].items(), *(_device(one) for one in said["devices"])]
    for line in columns(list(rows)):
        put(line)
    for one in found:
        say(describe(t, one))
    put(t("cli.check.ok" if said["ok"] else "cli.check.bad", home=said["home"]))


def _device(one: dict[str, Any]) -> tuple[str, str]:
    facts = [str(one.get("name", "")), t("cli.check.cores", n=one["cores"]) if "cores" in one else ""]
    memory = measure.size(one.get("memory_bytes")) if one.get("memory_bytes") else ""
    return str(one.get("kind")), " · ".join(part for part in (*facts, memory) if part)
