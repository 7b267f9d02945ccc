"""The processes that the command line starts: the worker, the preview child, a chat process, the file inspector.

The only place of the package, with `cli.py`, that starts programs: argv lists, no shell, own session.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Literal

from engine.specs.home import Home
from engine.specs.problem import ProblemError, problem
from storage import workers
from storage.database import Store
from storage.workers import Worker

SEEN_WITHIN_S = 60.0
START_S = 60.0
STOP_S = 90.0
SECRETS = ("ATELIER_PASSWORD",)
Module = Literal["worker", "preview", "chat", "importing"]


def argv(module: Module, *arguments: str) -> list[str]:
    """Return the command line of one of the engine's programs."""
    return [sys.executable, "-m", f"engine.runtime.{module}", *arguments]


def environment() -> dict[str, str]:
    """Return what children inherit: without our secrets, and able to import what we import."""
    kept = {name: value for name, value in os.environ.items() if name not in SECRETS}
    root = str(Path(__file__).resolve().parents[2])
    others = [part for part in kept.get("PYTHONPATH", "").split(os.pathsep) if part and part != root]
    return {**kept, "PYTHONPATH": os.pathsep.join([root, *others]), "PYTHONSAFEPATH": "1"}


def live_worker(store: Store) -> Worker | None:
    """Return a worker that lives on this home, if there is one."""
    with store.read() as session:
        seen = workers.live(session, within_s=SEEN_WITHIN_S)
    return next((one for one in seen if one.host != socket.gethostname() or is_running(one.pid, "engine.runtime.worker")), None)


def is_running(pid: int, module: str) -> bool:
    """Tell whether a process is there and runs a module: a pid alone may long be someone else's."""
    try:
        said = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        state = Path(f"/proc/{pid}/stat").read_text("ascii", "replace").rsplit(")", 1)[1].split()[0]
    except (OSError, IndexError):
        return False
    return module.encode() in said and state != "Z"


def start_worker(home: Home, store: Store) -> subprocess.Popen[bytes]:
    """Start a worker in a session of its own and wait until it is listed.

    Raises:
        ProblemError: it ended at once (`internal_worker_ended`, with the end of its log).
    """
    with (home.logs / "worker.log").open("ab") as log:
        started = _start(argv("worker"), home, output=log)
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        if started.poll() is not None:
            raise ProblemError([problem("internal_worker_ended", exit_code=started.returncode, log=str(home.logs / "worker.log"))])
        with store.read() as session:
            if any(one.pid == started.pid for one in workers.live(session, within_s=SEEN_WITHIN_S)):
                return started
        time.sleep(0.05)
    stop(started)
    raise ProblemError([problem("internal_worker_silent", seconds=START_S, log=str(home.logs / "worker.log"))])


@contextlib.contextmanager
def worker(home: Home, store: Store) -> Iterator[Worker | None]:
    """Have a worker for a while: the one that lives, or one of our own that ends with us."""
    found = live_worker(store)
    if found is not None:
        yield found
        return
    own = start_worker(home, store)
    try:
        yield None
    finally:
        stop(own)


@contextlib.contextmanager
def chat(home: Home, store: Store, base_key: str) -> Iterator[None]:
    """Have a process that answers for a base: the worker starts one, or it is one of our own."""
    if live_worker(store) is not None:
        yield
        return
    with _beside(argv("chat", "0", base_key), home, log="chat.log"):
        yield


@contextlib.contextmanager
def preview(home: Home, store: Store) -> Iterator[None]:
    """Have a preview child: the worker's, or one of our own."""
    if live_worker(store) is not None:
        yield
        return
    with _beside(argv("preview"), home, log="preview.log"):
        yield


def inspect(home: Home, file: Path, *, options: Sequence[str]) -> tuple[int, dict[str, Any]]:
    """Look through a file in a process of its own; return its exit code and the document that it printed."""
    command = argv("importing", "--inspect", str(file.absolute()), *options)
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, cwd=home.root, env=environment(), check=False)
    try:
        said = json.loads(done.stdout)
    except ValueError as error:
        raise ProblemError([problem("internal_inspect_ended", exit_code=done.returncode)]) from error
    return done.returncode, said


def become_worker() -> None:
    """Turn this process into a worker."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, argv("worker"), environment())


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process that we started: ask, wait, then insist on its whole group."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@contextlib.contextmanager
def _beside(command: list[str], home: Home, *, log: str) -> Iterator[None]:
    with (home.logs / log).open("ab") as output:
        own = _start(command, home, output=output)
    try:
        yield
    finally:
        stop(own)


def _start(command: list[str], home: Home, *, output: IO[bytes]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        cwd=home.root,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
    )
