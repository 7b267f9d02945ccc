"""The dryrun trainer: short steps and weights that are a chain of hashes, in the frame of the real trainer.

Child, claim, checkpoints, reports, pruning and the choice of what to resume from are the real ones; only the learning is
not. The spec may ask it for faults: to hang, to print without end, to take memory, to leave a grandchild.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from engine.runtime import checkpoints, child
from engine.runtime.child import Context, NonFinite, Stopped
from engine.runtime.machine import host
from engine.runtime.reporting import Reporter
from engine.runtime.settings import Settings
from engine.runtime.trainer import Run
from storage.errors import Fenced
from storage.metrics import Point
from tests.faults import altered

START = hashlib.sha256(b"start").digest()
BEGIN = SimpleNamespace(
    base=Path("/models/dry"), is_adapter=True, quantization="none", dtype="float32", head="language"
)
KEPT = SimpleNamespace(training=SimpleNamespace(keep_checkpoints=3, keep_every_steps=None), measure="eval_loss")
WEIGHTS = "weights.hex"


def advance(weights: bytes, step: int) -> bytes:
    """The weights after one more step."""
    return hashlib.sha256(weights + step.to_bytes(8, "big")).digest()


def weights_after(step: int) -> str:
    """What a run that nothing disturbed has learned after `step` steps."""
    weights = START
    for number in range(1, step + 1):
        weights = advance(weights, number)
    return weights.hex()


def loss_of(weights: bytes) -> float:
    """The loss that these weights report."""
    return int.from_bytes(weights[:6], "big") / 2**48


def curve_to(step: int) -> list[tuple[int, float]]:
    """The curve that a run which nothing disturbed has drawn after `step` steps."""
    return [(number, loss_of(bytes.fromhex(weights_after(number)))) for number in range(1, step + 1)]


def main(context: Context) -> dict[str, Any]:
    """Run to `steps`; `save_every`, `step_s` and `bytes` (of a checkpoint) shape it."""
    told = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: told.set())
    context.phase("loading")
    checkpoints.sweep(context.folder.parent)
    reporter = Reporter(context, lease_s=Settings.from_environment().lease_s)
    try:
        return _train(context, reporter, told)
    except NonFinite:
        reporter.close()
        raise


def _train(context: Context, reporter: Reporter, told: threading.Event) -> dict[str, Any]:
    spec = context.spec
    steps, save_every = spec["steps"], spec.get("save_every", 10)
    run = Run(context, KEPT)  # type: ignore[arg-type]
    resume = run._newest_good(BEGIN, reporter)
    weights = bytes.fromhex((resume / WEIGHTS).read_text()) if resume else START
    save = run._saver(BEGIN, SimpleNamespace(evaluated={}), reporter)
    step, wish = run._announce(resume, steps), None
    while step < steps and wish is None:
        step += 1
        _trace(context, step)
        _meddle(context, step)
        time.sleep(spec.get("step_s", 0.02))
        weights = advance(weights, step)
        reporter.put([Point("loss", step, loss_of(weights))])
        reporter.step(step, steps)
        if step == spec.get("nan_at"):
            reporter.put([Point("loss", step, float("nan"))])
            raise NonFinite(step, "loss")
        if reporter.fenced.is_set():
            raise Fenced("job", context.claim.job_id, context.claim.token)
        wish = _wish(reporter, told) if step < steps else None
        if wish != "cancel" and (step == steps or step % save_every == 0 or wish):
            save(step, lambda folder: _write(folder, weights, spec.get("bytes", 4096)))  # noqa: B023 - called at once
    if wish in ("cancel", "pause"):
        reporter.close()
        raise Stopped
    reporter.close()
    reason = {"reason": "stopped_at_step", "values": {"step": step}} if wish == "stop" else {}
    return {"steps": step, "weights": weights.hex(), **reason}


def _wish(reporter: Reporter, told: threading.Event) -> str | None:
    flags = reporter.flags
    if flags.cancel:
        return "cancel"
    if flags.stop:
        return "stop"
    return "pause" if flags.pause or told.is_set() else None


def _write(folder: Path, weights: bytes, num_bytes: int) -> None:
    (folder / WEIGHTS).write_text(weights.hex())
    (folder / "ballast.bin").write_bytes(weights * (num_bytes // len(weights)))


def _trace(context: Context, step: int) -> None:
    """One line a step, appended by the kernel in the order of time: who trained what, beside the store."""
    place = context.home.root.parent / "steps.log"
    words = [host(), context.job.lane, context.claim.job_id, context.claim.token, step, os.getpid()]
    handle = os.open(place, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(handle, (" ".join(map(str, [*words, time.monotonic()])) + "\n").encode())
    finally:
        os.close(handle)


def _meddle(context: Context, step: int) -> None:
    """Do what the spec asks for at this step, in the first attempt alone unless it says `always`."""
    spec = context.spec
    if step != spec.get("fault_at") or (context.claim.token > 1 and not spec.get("always")):
        return
    FAULTS[spec["fault"]](context)


def _hang(_context: Context) -> None:
    while True:
        time.sleep(3600)


def _kill(_context: Context) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _take_memory(context: Context) -> None:
    """Take memory until there is none: under a limit of one's own where the spec names one."""
    limit = context.spec.get("limit_bytes")
    if limit:
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    taken = []
    while True:
        taken.append(bytearray(os.urandom(1024) * 8192))


def _leave_a_grandchild(_context: Context) -> None:
    """One that holds all that we hold, as a forked one does: the lock too."""
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], stdin=subprocess.DEVNULL, close_fds=False)


def _print_text(context: Context) -> None:
    line = b"y" * 200 + b" hf_abcdefgh12345678\n"
    _print(context, lambda: line * 500)


def _print_bytes(context: Context) -> None:
    _print(context, lambda: os.urandom(65536).replace(b"\n", b"x") + b"\xff\xfe\x80")


def _print(context: Context, made: Any) -> None:
    left = context.spec["flood_bytes"]
    while left > 0:
        left -= os.write(1, made())
    os.write(1, b"\nafter the flood\n")


FAULTS = {
    "hang": _hang,
    "kill": _kill,
    "memory": _take_memory,
    "grandchild": _leave_a_grandchild,
    "text": _print_text,
    "bytes": _print_bytes,
}


if __name__ == "__main__":
    altered.apply()
    with contextlib.suppress(BrokenPipeError):
        child.run(main)
