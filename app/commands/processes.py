"""The processes that the command line starts: the worker, the preview child, a chat process, the file inspector.

The only place of the package, with `cli.py`, that starts programs: argv lists, no shell, own session.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Literal

from app import crew
from engine.specs.home import Home, host_name
from engine.specs.inherited import inherited
from engine.specs.problem import ProblemError, problem
from storage import workers
from storage.database import Store
from storage.workers import Worker

START_S = 60.0
STOP_S = 90.0
TAKEN = 64
"""What a worker ends with where another one has the home."""
Module = Literal["worker", "preview", "chat", "importing"]


def argv(module: Module, *arguments: str) -> list[str]:
    """Return the command line of one of the engine's programs."""
    return [sys.executable, "-m", f"engine.runtime.{module}", *arguments]


def environment() -> dict[str, str]:
    """Return what children inherit: no secrets, and able to import what we import."""
    root = str(Path(__file__).resolve().parents[2])
    others = [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part and part != root]
    return {**inherited(os.environ), "PYTHONPATH": os.pathsep.join([root, *others]), "PYTHONSAFEPATH": "1"}


def live_worker(store: Store) -> Worker | None:
    """Return a worker that lives on this home, if there is one."""
    with store.read() as session:
        return next(iter(crew.living(session)), None)


def own_worker(store: Store) -> Worker | None:
    """Return the worker that lives on this host, if there is one."""
    with store.read() as session:
        return next((one for one in crew.living(session) if one.host == host_name()), None)


def start_worker(home: Home, store: Store, *, until_job: int | None = None) -> subprocess.Popen[bytes] | None:
    """Start a worker in a session of its own and wait until it is listed; None where another one has the home.

    Raises:
        ProblemError: it ended at once, or was not heard of; both name its log.
    """
    path = home.logs / "worker.log"
    arguments = [] if until_job is None else ["--until-job", str(until_job)]
    with path.open("ab") as log:
        started = _start(argv("worker", *arguments), home, output=log)
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        code = started.poll()
        if code == 0 and until_job is not None:
            return started
        if code == TAKEN:
            return None
        if code is not None:
            raise ProblemError([problem("internal_worker_ended", exit_code=code, log=str(path))])
        with store.read() as session:
            if any((one.host, one.pid) == (host_name(), started.pid) for one in workers.live(session)):
                return started
        time.sleep(0.05)
    stop(started)
    raise ProblemError([problem("internal_worker_silent", seconds=int(START_S), log=str(path))])


@contextlib.contextmanager
def worker(home: Home, store: Store, *, until_job: int) -> Iterator[Callable[[], None]]:
    """Have a worker for a job: the one that lives, or one of our own that ends with the job, or with us.

    Yields what is to be called now and then while the job is waited for: it starts one where none lives any more.
    """
    own: list[subprocess.Popen[bytes]] = []

    def tend() -> None:
        if live_worker(store) is None and (started := start_worker(home, store, until_job=until_job)) is not None:
            own.append(started)

    try:
        tend()
        yield tend
    finally:
        for one in own:
            stop(one)


@contextlib.contextmanager
def chat(home: Home, store: Store, base_key: str) -> Iterator[Callable[[], bool]]:
    """Have a process that answers for a base: the worker starts one, or it is one of our own. Yields if it lives."""
    with _beside(argv("chat", "0", base_key), home, store, log="chat.log") as lives:
        yield lives


@contextlib.contextmanager
def preview(home: Home, store: Store) -> Iterator[Callable[[], bool]]:
    """Have a preview child: the worker's, or one of our own. Yields if it lives."""
    with _beside(argv("preview"), home, store, log="preview.log") as lives:
        yield lives


def inspect(home: Home, file: Path, *, options: Sequence[str]) -> tuple[int, dict[str, Any]]:
    """Look through a file in a process of its own; return its exit code and the document that it printed.

    Raises:
        ProblemError: it printed none.
    """
    command = argv("importing", "--inspect", str(file.absolute()), *options)
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, cwd=home.root, env=_confined(), check=False
    )
    try:
        return done.returncode, json.loads(done.stdout)
    except ValueError as error:
        raise ProblemError([problem("internal_inspect_ended", exit_code=done.returncode)]) from error


def become_worker() -> None:
    """Turn this process into a worker."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, argv("worker"), environment())  # noqa: S606  an argv list needs no shell


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
def _beside(command: list[str], home: Home, store: Store, *, log: str) -> Iterator[Callable[[], bool]]:
    """Run a program beside us unless a worker does; it dies with us, since our end of its stdin closes."""
    if live_worker(store) is not None:
        yield lambda: live_worker(store) is not None
        return
    with (home.logs / log).open("ab") as output:
        own = _start(command, home, output=output, lifeline=True)
    try:
        yield lambda: own.poll() is None
    finally:
        stop(own)


def _start(command: list[str], home: Home, *, output: IO[bytes], lifeline: bool = False) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        cwd=home.root,
        env={**_confined(), "ATELIER_LIFELINE": "stdin"} if lifeline else environment(),
        stdin=subprocess.PIPE if lifeline else subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
    )


def _confined() -> dict[str, str]:
    """Return the environment of a child that needs neither secrets nor the network."""
    kept = {name: value for name, value in environment().items() if not name.startswith(("HF_", "HUGGING"))}
    return {**kept, "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "TOKENIZERS_PARALLELISM": "false"}
