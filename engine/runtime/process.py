"""One child of the worker: a process group of its own, a lifeline on stdin, a log file, an end in two steps."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.runtime import logs
from engine.specs.home import Home
from engine.specs.inherited import inherited
from engine.specs.living import start_time

_WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
_FIXED = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONUNBUFFERED": "1",
    "ATELIER_LIFELINE": "stdin",
}
_BRIEF_SPIN = {"GOMP_SPINCOUNT": "100000"}
"""Threads that wait spin more briefly than the library's usual 300,000 turns, which beside a busy neighbour on the same
cores cost a training step two to four times its speed; 10,000 turns cost it a twentieth when it is alone. A word of a
chat is hundreds of tiny products, and falling asleep at some of them is felt: the chat keeps the library's own way."""
_FEW_SHAPES = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64"}
"""Of 1,024 kernels that the library of the CPU's products keeps, each for one length of a batch, few are met again: six
training steps with rows of all lengths held 235 MB for them, and were no faster for it."""
_LONG_SPIN = ("engine.runtime.chat",)
_CODE = Path(__file__).resolve().parents[2]


@dataclass(slots=True)
class Child:
    """A running child process."""

    process: subprocess.Popen[bytes]
    pid_start: float | None
    pump: threading.Thread
    asked_to_end_at: float | None = None

    @property
    def pid(self) -> int:
        return self.process.pid

    def ended(self) -> int | None:
        """The return code once it has ended, with its whole group gone and its log complete."""
        code = self.process.poll()
        if code is not None:
            self._kill_group()
            self.pump.join(timeout=5)
        return code

    def ask_to_end(self) -> None:
        """SIGTERM to the child itself, once; it saves and leaves."""
        if self.asked_to_end_at is None:
            self.asked_to_end_at = time.monotonic()
            with contextlib.suppress(ProcessLookupError):
                self.process.terminate()

    def show_stacks(self) -> None:
        """SIGUSR1: it writes what each of its threads is doing to its log."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGUSR1)

    def insist(self, grace_s: float) -> None:
        """SIGKILL to the whole group if it was asked to end longer than the grace ago."""
        if self.asked_to_end_at is not None and time.monotonic() - self.asked_to_end_at > grace_s:
            self._kill_group()

    def kill(self) -> None:
        """End the whole group now, and reap it."""
        self._kill_group()
        self.process.wait()

    def _kill_group(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)


def environment(module: str) -> dict[str, str]:
    """The little that the child of a module inherits: no secrets, no network for the libraries, the code's place."""
    chosen = module in _LONG_SPIN or any(name in os.environ for name in _WAITING)
    own = {"PYTHONPATH": str(_CODE), "TORCHINDUCTOR_CACHE_DIR": str(Home.from_environment().compiled)}
    few = {} if module in _LONG_SPIN else _FEW_SHAPES
    return {**({} if chosen else _BRIEF_SPIN), **few, **inherited(os.environ), **_FIXED, **own}


def spawn(
    module: str,
    arguments: Sequence[str],
    *,
    log: Path,
    locks: Sequence[int] = (),
    more: Mapping[str, str] | None = None,
) -> Child:
    """Start `python -m module arguments` in a process group of its own; the locks' descriptors go with it.

    `more` is added to what the child inherits of the environment.

    Raises:
        OSError: no process, thread or descriptor is left for it; nothing of it runs.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        pass_fds=tuple(locks),
        env={**environment(module), **(more or {})},
        cwd="/",
    )
    assert process.stdout is not None
    try:
        return Child(process, start_time(process.pid), logs.carry(process.stdout, log))
    except (RuntimeError, OSError) as error:  # no thread is left: a child whose output nobody reads would stand still
        with process:
            process.kill()
        raise OSError(errno.EAGAIN, str(error)) from error
