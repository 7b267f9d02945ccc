"""`atelier store backup | restore | check | rows | upgrade`: care of the store."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from sqlalchemy.engine import make_url

from app import measure
from app.commands import exits
from app.commands.jobs import Id
from app.commands.shell import AsJson, answer, refusals, shell
from app.commands.speech import speech
from engine.specs.home import Home
from engine.specs.problem import ProblemError, problem
from storage import maintenance, workers
from storage.database import store_at
from storage.errors import StoreError

t = speech()
store = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

Backup = Annotated[Path, typer.Argument(metavar="FILE", help=t("cli.arg.backup"))]


@store.command("backup", help=t("cli.help.store.backup"))
def backup(file: Backup, json: AsJson = False) -> None:
    with shell(json) as sh:
        size = maintenance.backup(sh.store, file.absolute())
        said = {"path": str(file.absolute()), "bytes": size}
        sh.answer(said, [t("cli.store.backed_up", path=said["path"], size=measure.size(size))])


@store.command("restore", help=t("cli.help.store.restore"))
def restore(file: Backup, json: AsJson = False) -> None:
    with refusals(json):
        home = Home.from_environment().ensure()
        with _alone(home):
            kept = maintenance.restore(_file_of(home), file.absolute())
        said = {"store": str(_file_of(home)), "restored_from": str(file.absolute()), "kept": kept and str(kept)}
        lines = [t("cli.store.restored", path=said["restored_from"])]
        answer(json, said, [*lines, *([t("cli.store.kept", path=said["kept"])] if kept else [])])


@store.command("check", help=t("cli.help.store.check"))
def check(json: AsJson = False) -> None:
    with shell(json) as sh:
        found = maintenance.integrity(sh.store)
        sh.answer({"ok": not found, "faults": found}, found or [t("cli.store.whole")])
        if found:
            sh.tell("cli.store.faults", n=len(found))
            raise typer.Exit(exits.Code.INTERNAL)


@store.command("rows", help=t("cli.help.store.rows"))
def rows(
    run: Id, out: Annotated[Path, typer.Option(metavar="FILE", help=t("cli.option.rows_out"))], json: AsJson = False
) -> None:
    with shell(json) as sh:
        with sh.store.read() as session:
            size = maintenance.write_rows(session, run, out.absolute())
        said = {"id": run, "path": str(out.absolute()), "bytes": size}
        sh.answer(said, [t("cli.store.rows", id=run, path=said["path"], size=measure.size(size))])


@store.command("upgrade", help=t("cli.help.store.upgrade"))
def upgrade(json: AsJson = False) -> None:
    with refusals(json):
        home = Home.from_environment().ensure()
        with _alone(home):
            before, after, saved = maintenance.upgrade(home.store_url)
        said = {"before": before, "after": after, "backup": saved and str(saved)}
        key = "cli.store.newest" if before == after else "cli.store.upgraded"
        lines = [t(key, before=before, after=after)]
        answer(json, said, [*lines, *([t("cli.store.saved", path=said["backup"])] if saved else [])])


@contextlib.contextmanager
def _alone(home: Home) -> Iterator[None]:
    """Keep worker and web page of this host away meanwhile, and refuse while one lives here or on another host."""
    with contextlib.ExitStack() as held:
        for who, path in (("worker", home.worker_lock), ("ui", home.ui_lock)):
            file = held.enter_context(path.open("a"))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ProblemError([problem("store_in_use", who=who, host=home.locks.name)]) from error
        for host in _hosts_elsewhere(home):
            raise ProblemError([problem("store_in_use", who="worker", host=host)])
        yield


def _hosts_elsewhere(home: Home) -> list[str]:
    """Return the hosts that live workers of a shared store are on; none where the store is a file or cannot say."""
    if make_url(home.store_url).get_backend_name() == "sqlite":
        return []
    opened = store_at(home.store_url, create=False)
    try:
        with opened.read() as session:
            return [one.host for one in workers.live(session)]
    finally:
        opened.dispose()


def _file_of(home: Home) -> Path:
    url = make_url(home.store_url)
    if url.get_backend_name() != "sqlite" or url.database is None:
        raise StoreError("store_restore_postgresql", {"command": "pg_restore --clean --if-exists --dbname=URL FILE"})
    return Path(url.database)
