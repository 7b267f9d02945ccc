"""The chat process: holds one base, answers the messages that wait for it, one after another.

`python -m engine.runtime.chat PROCESS_ID BASE_KEY`; with PROCESS_ID 0 the process lists itself.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy.exc import DBAPIError

from engine.models.serving import Served
from engine.runtime.answering import answer, check_checkpoint
from engine.runtime.checkpoints import MANIFEST
from engine.runtime.device import SPARE_BYTES, arithmetic, weights_bytes
from engine.runtime.failures import is_out_of_memory
from engine.runtime.machine import host
from engine.runtime.outcome import Exit
from engine.specs.home import Home
from engine.specs.living import start_time
from engine.specs.problem import ProblemError, problem
from storage import messages, processes
from storage.database import Store, open_store
from storage.errors import Fenced
from storage.patience import patiently
from storage.targets import parse_key

POLL_S = 0.01
LOOK_ANYWAY_S = 0.5
HEARTBEAT_S = 2.0
LOST_FOR_S = 60.0
SPACE_FACTORS = {"none": 1.0, "int8": 0.6, "nf4": 0.4}
log = logging.getLogger(__name__)


@dataclass
class Life:
    """Why the process should end, and what it tells of itself; shared with the heartbeat."""

    unload: threading.Event = field(default_factory=threading.Event)
    terminated: threading.Event = field(default_factory=threading.Event)
    written_off: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)
    facts: dict[str, Any] = field(default_factory=dict)

    def must_break_off(self) -> bool:
        return self.terminated.is_set() or self.written_off.is_set()


class Mail:
    """Tells cheaply whether the store may hold something new, and every half second says that it may.

    A file tells by its log's time, a server by what is committed.
    """

    def __init__(self, store: Store) -> None:
        self._log = f"{store.file}-wal" if store.file else None
        self._watch = None if store.file else store.watch()
        self._seen, self._looked = 0, 0.0

    def look_again(self) -> None:
        """What was seen while something else was done counts as new."""
        self._seen, self._looked = 0, 0.0

    def is_due(self) -> bool:
        changed = self._changed()
        fresh = (
            changed != self._seen or abs(time.time() - changed / 1e9) < 0.05
        )  # the clock of file times ticks coarsely
        if not fresh and time.monotonic() - self._looked < LOOK_ANYWAY_S:
            return False
        self._seen, self._looked = changed, time.monotonic()
        return True

    def _changed(self) -> int:
        if self._log is None:
            assert self._watch is not None
            return self._seen + self._watch.changed()
        try:
            return os.stat(self._log).st_mtime_ns
        except FileNotFoundError:
            return 0


def serve(store: Store, process_id: int, base_key: str, *, life: Life, idle_s: float) -> Exit:
    """Load the base and answer until nobody has asked for `idle_s`, an unload is asked for, or the process must end."""
    try:
        served = _load(base_key, life)
    except Exception as error:
        return _give_up(store, base_key, error)
    life.facts |= {"state": "ready", "memory_bytes": memory_bytes(served.device)}
    beat(store, process_id, life)
    mail, asked_at = Mail(store), time.monotonic()
    while not (life.must_break_off() or life.unload.is_set()):
        claimed = _claimed(store, process_id, base_key) if mail.is_due() else None
        if claimed is None:
            if time.monotonic() - asked_at > idle_s:
                break
            life.terminated.wait(POLL_S)
            continue
        try:
            answer(store, served, claimed, process_id, leave=life.must_break_off)
        except Fenced:
            log.warning("answer lost message=%d", claimed.id)
        life.facts |= {"adapters": served.adapters, "memory_bytes": memory_bytes(served.device)}
        asked_at = time.monotonic()
        mail.look_again()
    return Exit.DONE


def choose_device(folder: Path, quantization: str) -> tuple[str, str]:
    """Where the base goes, and the code of the reason: the GPU if it has room now, else the CPU."""
    import torch

    if not torch.cuda.is_available():
        return "cpu", "no_gpu"
    free, _total = torch.cuda.mem_get_info()
    needed = int(weights_bytes(folder) * SPACE_FACTORS[quantization]) + SPARE_BYTES
    return ("cuda", "gpu_has_room") if needed <= free else ("cpu", "gpu_too_full")


def memory_bytes(device: str) -> int:
    """What the process holds now: on the GPU, or resident."""
    import torch

    if device == "cuda":
        return int(torch.cuda.memory_reserved())
    with Path("/proc/self/statm").open(encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def beat(store: Store, process_id: int, life: Life) -> None:
    """Note that the process lives, and take what was asked of it."""
    try:
        with store.write() as session:
            if processes.seen(session, process_id, **life.facts):
                life.unload.set()
    except Fenced:
        life.written_off.set()


def _load(base_key: str, life: Life) -> Served:
    path, quantization, dtype = parse_key(base_key)
    folder = Path(path)
    if not (folder / "config.json").is_file():
        raise ProblemError([problem("model_folder_missing", folder=folder.name)])
    if (folder / MANIFEST).exists():
        check_checkpoint(folder, deep=True)
    device, reason = choose_device(folder, quantization)
    life.facts |= {"device": device, "device_reason": reason}
    dtype = arithmetic(folder, quantization=quantization, dtype=dtype, device=device)
    return Served(folder, quantization=quantization, dtype=dtype, device=device)


def _claim(store: Store, process_id: int, base_key: str) -> messages.Message | None:
    with store.read() as session:  # a look that takes no write lock
        if base_key not in messages.waiting_bases(session):
            return None
    with store.write() as session:
        return messages.claim(session, base_key=base_key, process_id=process_id)


def _claimed(store: Store, process_id: int, base_key: str) -> messages.Message | None:
    """Claim; a store that is not reached for a moment has nothing for us."""
    try:
        return _claim(store, process_id, base_key)
    except DBAPIError as error:
        log.warning("store not reached: %s", error)
        patiently(lambda: _drop(store, process_id), patience_s=LOST_FOR_S)
        return None


def _drop(store: Store, process_id: int) -> None:
    """Mark what was given to us in a transaction whose reply was lost."""
    with store.write() as session:
        messages.fail_of_dead(session, process_id, "chat_ended")


def _give_up(store: Store, base_key: str, error: Exception) -> Exit:
    """Tell those who wait that the base cannot be loaded."""
    code, reason, values = Exit.INTERNAL, "internal_error", {"error": type(error).__name__}
    if isinstance(error, ProblemError):
        code, reason, values = Exit.MODEL, error.problems[0].code, dict(error.problems[0].values)
    elif is_out_of_memory(error):
        code, reason, values = Exit.OUT_OF_MEMORY, "out_of_memory", {}
    log.exception("base not loaded reason=%s", reason)
    with store.write() as session:
        messages.fail_waiting(session, base_key, reason=reason, values=values)
    return code


def _heart(store: Store, process_id: int, life: Life) -> None:
    while not life.over.wait(HEARTBEAT_S):
        try:
            beat(store, process_id, life)
        except DBAPIError as error:
            log.warning("heartbeat failed: %s", error)


def run(process_id: int, base_key: str) -> Exit:
    """The whole life of a chat process on the home of the environment."""
    from engine.models.loading import use_threads
    from engine.runtime.child import die_with_the_worker

    store = open_store(Home.from_environment().store_url, create=False)
    life = Life()
    signal.signal(signal.SIGTERM, lambda *_: life.terminated.set())
    die_with_the_worker()
    if process_id == 0:
        with store.write() as session:
            process_id = processes.add(
                session, base_key=base_key, host=host(), pid=os.getpid(), pid_start=start_time(os.getpid())
            ).id
    heart = threading.Thread(target=_heart, args=(store, process_id, life), name="heart", daemon=True)
    heart.start()
    use_threads(spare=1)  # threads on every core wait for each other whenever the page or a run needs one
    try:
        code = serve(store, process_id, base_key, life=life, idle_s=float(os.environ.get("ATELIER_CHAT_IDLE_S", "300")))
    finally:
        life.over.set()
        heart.join(timeout=10)
        with store.write() as session:
            messages.fail_of_dead(session, process_id, "chat_ended")
            processes.gone(session, process_id)
    return code


def main(arguments: list[str] | None = None, *, leave: Callable[[int], Any] = os._exit) -> None:
    """Run, then leave at once: no library's exit handler may hang."""
    parser = argparse.ArgumentParser(prog="python -m engine.runtime.chat", description=__doc__)
    parser.add_argument("process_id", type=int)
    parser.add_argument("base_key")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        code = run(given.process_id, given.base_key)
    except BaseException:
        log.exception("chat ended")
        code = Exit.INTERNAL
    sys.stderr.flush()
    leave(int(code))


if __name__ == "__main__":
    main()
