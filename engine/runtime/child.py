"""The frame of every child: reads its job, runs, leaves a result marker, exits with a code that means something."""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import os
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from engine.files import write_json
from engine.runtime.crashing import crash_here
from engine.runtime.failures import device_fault, is_disk_full, is_out_of_memory, is_store_lost, needed_space
from engine.runtime.machine import session_of
from engine.runtime.outcome import Exit, exit_of
from engine.runtime.settings import Settings
from engine.specs.home import Home
from engine.specs.problem import ProblemError
from storage import jobs
from storage.database import Store, open_store
from storage.errors import Fenced, StoreError, StoreGone
from storage.jobs import Claim, Flags, Job
from storage.patience import patiently


class Stopped(Exception):
    """The child ended because it was asked to; what it had is saved."""


class NonFinite(Exception):
    """A loss, gradient or weight is not a number; `step` says where, `name` which."""

    reason = "non_finite"

    def __init__(self, step: int, name: str) -> None:
        self.step, self.name = step, name
        super().__init__(f"{self.reason} at step {step}: {name}")


class Diverged(NonFinite):
    """The loss is a number, but sums overflowed on the way: it has no gradient and nothing can be learned any more."""

    reason = "diverged"

    def __init__(self, step: int, loss: float) -> None:
        super().__init__(step, f"loss {loss:.3g}")


class Refused(Exception):
    """The work was done and judged not good enough to keep; `result` shows the figures."""

    def __init__(self, reason: str, values: Mapping[str, Any], result: Mapping[str, Any]) -> None:
        self.reason, self.values, self.result = reason, dict(values), dict(result)
        super().__init__(reason)


@dataclass(frozen=True, slots=True)
class Context:
    """What a child knows of its job. Every write carries the claim."""

    home: Home
    store: Store
    job: Job
    claim: Claim
    patience_s: float = 60.0
    """How long a store that is not reached is tried again: as long as the lease."""

    @property
    def spec(self) -> dict[str, Any]:
        return self.job.spec

    @property
    def folder(self) -> Path:
        """The attempt's own folder: a stale attempt can only write where nobody reads."""
        return self.home.runs / str(self.claim.job_id) / str(self.claim.token)

    def phase(self, code: str) -> None:
        """Show people what is being done."""
        self.write(lambda session: jobs.progress(session, self.claim, phase=code))

    def progress(self, step: int, total: int) -> None:
        """Show people how far it is."""
        self.write(lambda session: jobs.progress(session, self.claim, step=step, total=total))

    def event(self, kind: str, data: dict[str, Any]) -> None:
        """Append a line to the job's history."""
        self.write(lambda session: jobs.event(session, self.claim, kind, data))

    def flags(self) -> Flags:
        """What was asked of the job meanwhile."""

        def look() -> Flags:
            with self.store.read() as session:
                return jobs.flags(session, self.claim)

        return patiently(look, patience_s=self.patience_s)

    def write(self, change: Callable[[Session], None]) -> None:
        """Change the store in one transaction; a store that is not reached is tried again for a while."""

        def once() -> None:
            with self.store.write() as session:
                change(session)

        patiently(once, patience_s=self.patience_s)


def run(main: Callable[[Context], Mapping[str, Any]]) -> None:
    """Run `main` for the job and token named in the arguments, then leave the process.

    `main` returns the job's result; `reason` and `values` in it (optional) tell how it ended.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("job_id", type=int)
    parser.add_argument("token", type=int)
    arguments = parser.parse_args()
    die_with_the_worker()
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    home, patience_s = Home.from_environment(), Settings.from_environment().lease_s
    try:
        store, job = patiently(lambda: _found(home, arguments.job_id), patience_s=patience_s)
    except (StoreError, DBAPIError) as error:
        sys.stderr.write(f"{error}\n")
        sys.stderr.flush()
        os._exit(Exit.FENCED)  # what nobody can be told is not done
    context = Context(home, store, job, Claim(job.id, job.attempt, arguments.token), patience_s)
    context.folder.mkdir(parents=True, exist_ok=True)
    marker = context.folder / "result.json"
    signal.signal(signal.SIGTERM, _stop)
    code, said = _end_of(main, context)
    if code is not Exit.FENCED:
        with contextlib.suppress(OSError):  # a full disk: the exit code alone must do
            write_json(marker, said)
    crash_here("result_written")
    sys.stdout.flush()
    sys.stderr.flush()
    for pid in session_of(os.getpid(), None):  # what the work started and left: nobody knows of it once we are gone
        if pid != os.getpid():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    os._exit(code)  # no library's exit handler may hang or change the code


def _found(home: Home, job_id: int) -> tuple[Store, Job]:
    store = open_store(home.store_url, create=False)
    try:
        with store.read() as session:
            return store, jobs.get(session, job_id)
    except BaseException:
        store.dispose()
        raise


def _end_of(main: Callable[[Context], Mapping[str, Any]], context: Context) -> tuple[Exit, dict[str, Any]]:
    try:
        result = dict(main(context))
        how = {"reason": result.pop("reason", "done"), "values": result.pop("values", {})}
        return Exit.DONE, {"ok": True, **how, "result": result}
    except Stopped:
        return Exit.STOPPED, {"ok": False, "reason": "stopped"}
    except (Fenced, StoreGone):
        return Exit.FENCED, {}
    except ProblemError as error:
        found = [item.as_dict() for item in error.problems]
        return exit_of(error.problems), {
            "ok": False,
            "reason": error.problems[0].code,
            "values": found[0]["values"],
            "problems": found,
        }
    except NonFinite as error:
        return Exit.NON_FINITE, {
            "ok": False,
            "reason": error.reason,
            "values": {"step": error.step, "name": error.name},
        }
    except Refused as error:
        return Exit.INTERNAL, {"ok": False, "reason": error.reason, "values": error.values, "result": error.result}
    except Exception as error:
        with contextlib.suppress(OSError):  # nobody may read our output any more
            traceback.print_exc()
        if is_out_of_memory(error):
            return Exit.OUT_OF_MEMORY, {"ok": False, "reason": "out_of_memory", "values": {}}
        if is_disk_full(error):
            return Exit.DISK_FULL, {"ok": False, "reason": "disk_full", "values": needed_space(error)}
        if is_store_lost(error):
            return Exit.FENCED, {}
        if (fault := device_fault(error)) is not None:
            return Exit.INTERNAL, {"ok": False, "reason": "device_fault", "values": {"error": fault}}
        return Exit.INTERNAL, {"ok": False, "reason": "internal_error", "values": {"error": type(error).__name__}}


def _stop(*_: Any) -> None:
    """Unwind, so that what is half-made is removed on the way out; the trainer saves instead."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Stopped


def die_with_the_worker() -> None:
    """Turn the end of the worker into a SIGTERM to ourselves: its end of the lifeline pipe closes with it."""
    import threading

    def watch() -> None:
        if sys.stdin is not None and not sys.stdin.closed:
            while sys.stdin.buffer.read(1):
                continue
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)  # the worker read our output: from here on a print would fail with a broken pipe
        os.dup2(nowhere, 2)
        os.kill(os.getpid(), signal.SIGTERM)

    if os.environ.get("ATELIER_LIFELINE") == "stdin":
        threading.Thread(target=watch, name="lifeline", daemon=True).start()
