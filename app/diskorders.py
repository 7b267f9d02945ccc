"""What the buttons of the Disk page do. An order is `verb:id` or `verb:id:step`."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

from app import diskuse, ids, removal
from app.diskuse import Use
from app.render import Html, log, note
from app.ui import Ui
from storage import checkpoints, jobs, maintenance, retention
from storage.errors import Conflict, NotFound
from storage.states import State

SURE = frozenset({"prune", "export", "tokens", "leftovers", "unbackup"})
"""The orders that destroy something: they are given twice."""
READ_TOKENS = ("train", "trial", "export")
Order = Callable[[Ui, int, int], Html]
"""Returns what to say."""


def obey(ui: Ui, order: str) -> Html:
    """Carry out an order and return what became of it.

    Raises:
        StoreError: there is no such thing, or something still needs it.
    """
    verb, number, step = taken_apart(order)
    return ORDERS[verb](ui, number, step) if verb in ORDERS else Html("")


def taken_apart(order: str) -> tuple[str, int, int]:
    """Return verb, id and step of an order; a number that is none is 0."""
    verb, number, step, *_ = [*order.split(":"), "", "", ""]
    return verb, ids.number(number) or 0, ids.number(step) or 0


def freed_by(use: Use, order: str) -> int:
    """Return the bytes that an order frees."""
    verb, number, _step = taken_apart(order)
    return {
        "prune": sum(one.removable_bytes for one in use.runs if one.job.id == number),
        "export": sum(size for job, size in use.exports if job.id == number),
        "tokens": use.caches,
        "leftovers": use.leftover_bytes,
        "unbackup": sum(size for stamp, size in use.backups if stamp == number),
    }.get(verb, 0)


def _prune(ui: Ui, job_id: int, _step: int) -> Html:
    """Rows first: a folder without a row is garbage, a row without its folder is a lie."""
    with ui.store.write() as session:
        gone = retention.remove(session, job_id)
    for one in gone:
        removal.delete_folder(Path(one.path), below=ui.home.runs)
    return note("", ui.t("disk.pruned", n=len(gone)), tone="good")


def _export(ui: Ui, job_id: int, _step: int) -> Html:
    with ui.store.read() as session:
        if jobs.get(session, job_id).kind not in diskuse.WRITING:
            raise NotFound("export", job_id)
    removal.delete_job(ui.store, ui.home, job_id)
    return note("", ui.t("disk.export_gone", id=job_id), tone="good")


def _tokens(ui: Ui, _number: int, _step: int) -> Html:
    with ui.store.read() as session:
        users = jobs.listing(session, kinds=READ_TOKENS, states=[State.RUNNING])
    if users:
        raise Conflict("tokens_in_use", {"by": users[0].id})
    for folder in ui.home.caches:
        removal.delete_folder(folder, below=ui.home.root)
    return note("", ui.t("disk.tokens_gone"), tone="good")


def _leftovers(ui: Ui, _number: int, _step: int) -> Html:
    with ui.store.read() as session:
        found = list(diskuse.find_leftovers(session, ui.home))
    for path in found:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    return note("", ui.t("disk.leftovers_gone", n=len(found)), tone="good")


def _pin(ui: Ui, job_id: int, step: int) -> Html:
    with ui.store.write() as session:
        checkpoints.pin(session, job_id, step)
    return Html("")


def _unpin(ui: Ui, job_id: int, step: int) -> Html:
    with ui.store.write() as session:
        retention.unpin(session, job_id, step)
    return Html("")


def _backup(ui: Ui, _number: int, _step: int) -> Html:
    stamp = int(time.strftime("%Y%m%d%H%M%S"))
    path = diskuse.backup_path(ui.home, stamp)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    maintenance.backup(ui.store, path)
    path.chmod(0o600)
    return note("", ui.t("disk.backup_made", name=path.name), tone="good")


def _unbackup(ui: Ui, number: int, _step: int) -> Html:
    diskuse.backup_path(ui.home, number).unlink(missing_ok=True)
    return note("", ui.t("disk.backup_gone"), tone="good")


def _check(ui: Ui, _number: int, _step: int) -> Html:
    began = time.monotonic()
    found = maintenance.integrity(ui.store)
    seconds = f"{time.monotonic() - began:.1f}"
    if not found:
        return note(ui.t("disk.sound"), ui.t("disk.sound_text", seconds=seconds), tone="good")
    return note(ui.t("disk.unsound"), ui.t("disk.unsound_text", n=len(found)), tone="bad") + log(found[:20])


ORDERS: dict[str, Order] = {
    "prune": _prune,
    "export": _export,
    "tokens": _tokens,
    "leftovers": _leftovers,
    "pin": _pin,
    "unpin": _unpin,
    "backup": _backup,
    "unbackup": _unbackup,
    "check": _check,
}
