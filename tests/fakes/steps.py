"""A child for tests of the worker: counts steps like a trainer, without any of its libraries."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Any

from sqlalchemy.exc import OperationalError

from engine.runtime import child
from engine.runtime.checkpoints import NoSpace
from engine.runtime.child import Context, Stopped
from engine.specs.problem import ProblemError, problem
from storage import jobs, metrics
from storage.metrics import Point


def main(context: Context) -> dict[str, Any]:
    """Count to `steps`; the spec may ask it to fail, to kill itself once, or to go on from where it was."""
    told = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: told.set())
    spec = context.spec
    first = (context.job.progress_step or 0) + 1
    _hang(spec.get("load_s", 0.0))
    context.phase("training")
    for step in range(first, spec["steps"] + 1):
        with context.store.write() as session:
            metrics.append(session, context.claim, [Point("loss", step, 1.0 / step)])
            jobs.progress(session, context.claim, step=step, total=spec["steps"])
        if step == spec.get("kill_at") and context.claim.token == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        if step == spec.get("refuse_at"):
            raise ProblemError([problem("data_not_there", given="nothing")])
        if step == spec.get("lose_store_at") and context.claim.token == 1:
            raise OperationalError("COMMIT", {}, Exception("gone"), connection_invalidated=True)
        if step == spec.get("crash_at"):
            raise RuntimeError("with a token: hf_abcdefgh12345678")
        if step == spec.get("hang_at"):
            _hang(spec.get("hang_s", 600.0))
        if step == spec.get("beat_at"):
            _beat(context, spec["beat_s"])
        if step == spec.get("full_at") and context.claim.token == 1:
            raise NoSpace(spec["needed_bytes"], 7)
        flags = context.flags()
        if told.is_set() or flags.cancel or flags.pause:
            raise Stopped
        if flags.stop:
            return {"steps": step, "reason": "stopped_at_step"}
        time.sleep(spec.get("pause_s", 0.01))
    return {"steps": spec["steps"]}


def _hang(seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:  # a signal does not end it
        time.sleep(0.1)


def _beat(context: Context, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with context.store.write() as session:
            jobs.beat(session, context.claim)
        time.sleep(0.2)


if __name__ == "__main__":
    child.run(main)
