"""`atelier up` and `atelier worker`: the studio, and a worker alone."""

from __future__ import annotations

import signal
import subprocess
import threading
from types import FrameType
from typing import Annotated

import typer

from app.commands import exits, processes
from app.commands.shell import Shell, describe, put, say, shell
from app.commands.speech import speech
from engine.specs.problem import ProblemError

t = speech()
LOOK_S = 2.0


class Ended(BaseException):
    """The process was told to end."""


class Keeper(threading.Thread):
    """Sees to it that a worker lives while the pages do. Invariant: `own` is the only worker that it ends."""

    def __init__(self, sh: Shell) -> None:
        super().__init__(name="keeper", daemon=True)
        self._shell = sh
        self._ending = threading.Event()
        self._lock = threading.Lock()
        self.own: subprocess.Popen[bytes] | None = None

    def run(self) -> None:
        """Attach to the worker that lives, else start one; again whenever there is none."""
        found = processes.live_worker(self._shell.store)
        if found is not None:
            self._shell.tell("cli.up.attached", pid=found.pid)
        while True:
            self._keep()
            if self._ending.wait(LOOK_S):
                return

    def end(self) -> None:
        """End the worker that we started, if we did, and wait for it."""
        self._ending.set()
        with self._lock:
            if self.own is not None and self.own.poll() is None:
                self._shell.tell("cli.up.ending")
                processes.stop(self.own)

    def _keep(self) -> None:
        with self._lock:
            if self._ending.is_set():
                return
            try:
                if processes.live_worker(self._shell.store) is None:
                    self.own = processes.start_worker(self._shell.home, self._shell.store)
                    self._shell.tell("cli.up.started", pid=self.own.pid, log=str(self._shell.home.logs / "worker.log"))
            except ProblemError as error:
                say(describe(self._shell.t, error.problems[0]))


def up(
    host: Annotated[str, typer.Option(help=t("cli.option.host"))] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help=t("cli.option.port"))] = 7860,
) -> None:
    with shell(False) as sh:
        _serve(sh, host, port)


def worker() -> None:
    with shell(False) as sh:
        found = processes.live_worker(sh.store)
        if found is not None:
            sh.tell("cli.worker.there", pid=found.pid)
            raise typer.Exit(64)
        sh.tell("cli.worker.starts", home=str(sh.home.root))
    processes.become_worker()


def _serve(sh: Shell, host: str, port: int) -> None:
    from app.server import ServeError, serve  # brings Gradio in: nobody else needs it

    keeper = Keeper(sh)

    def ready(address: str) -> None:
        put(sh.t("cli.up.address", address=address))
        keeper.start()

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    try:
        serve(sh.home, host, port, ready=ready)
    except ServeError as error:
        sh.tell(f"serve.{error.code}", **error.values)
        raise typer.Exit(exits.Code.USAGE) from error
    except (KeyboardInterrupt, Ended):
        pass
    finally:
        keeper.end()


def _end(number: int, frame: FrameType | None) -> None:
    """The web server catches the signal first, ends, and passes it on to here."""
    del number, frame
    raise Ended
