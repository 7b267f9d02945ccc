"""`atelier up` and `atelier worker`: the studio, and a worker alone."""

from __future__ import annotations

import signal
import subprocess
import threading
from types import FrameType
from typing import Annotated

import typer
from sqlalchemy.exc import SQLAlchemyError

from app.commands import exits, processes
from app.commands.check import old_sqlite
from app.commands.shell import Shell, describe, put, say, shell
from app.commands.speech import speech
from app.refusal import problems_of
from engine.specs.problem import ProblemError
from storage.errors import StoreError

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
        self._pid: int | None = None
        self._trouble = ""
        self.own: subprocess.Popen[bytes] | None = None

    def run(self) -> None:
        """Attach to the worker that lives, else start one; again whenever there is none."""
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
        """Look once. What is in the way is said once, and does not end the looking."""
        with self._lock:
            if self._ending.is_set():
                return
            trouble = ""
            try:
                self._attach_or_start()
            except (ProblemError, StoreError) as error:
                trouble = describe(self._shell.t, problems_of(error)[0])
            except (SQLAlchemyError, OSError) as error:
                trouble = self._shell.t("cli.up.trouble", detail=getattr(error, "orig", error))
            if trouble and trouble != self._trouble:
                say(trouble)
            self._trouble = trouble

    def _attach_or_start(self) -> None:
        found = processes.own_worker(self._shell.store)
        if found is not None:
            if found.pid != self._pid:
                self._shell.tell("cli.up.attached", pid=found.pid)
            self._pid = found.pid
        elif (started := processes.start_worker(self._shell.home, self._shell.store)) is not None:
            self.own, self._pid = started, started.pid
            self._shell.tell("cli.up.started", pid=started.pid, log=str(self._shell.home.logs / "worker.log"))


def up(
    host: Annotated[str, typer.Option(help=t("cli.option.host"))] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help=t("cli.option.port"))] = 7860,
) -> None:
    with shell(False) as sh:
        _warn(sh)
        _serve(sh, host, port)


def worker() -> None:
    with shell(False) as sh:
        found = processes.own_worker(sh.store)
        if found is not None:
            sh.tell("cli.worker.there", pid=found.pid)
            raise typer.Exit(64)
        _warn(sh)
        sh.tell("cli.worker.starts", home=str(sh.home.root))
    processes.become_worker()


def _warn(sh: Shell) -> None:
    """Say what is no reason not to start, but to be known."""
    for one in old_sqlite(sh.home):
        say(describe(sh.t, one))


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
