"""Real trainers of a tiny model, killed at random moments: every one has to end with the weights of the undisturbed one.

`python -m tests.faults.kills --kills 40 --seed N [--home FOLDER] [--model FOLDER]` prints a summary as JSON.

This process does the worker's part: it claims, forks, kills, settles. It has imported the libraries and has neither a
thread nor an open store when it forks, so that each trainer begins as a process of its own would, without its ten
seconds of imports; what it runs is the trainer's own `main` in the frame of every child.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import hashlib
import json
import os
import random
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from engine.data.importer import store_rows
from engine.runtime.machine import boot_id, host
from engine.specs.home import Home
from engine.specs.job import parse
from engine.specs.living import start_time
from storage import checkpoints, datasets, jobs, metrics, models
from storage.database import Store, open_store
from storage.datasets import NewVersion
from storage.jobs import Holder, Settlement, SubmitOptions
from storage.models import NewModel
from storage.states import State
from tests.faults.invariants import check_invariants

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "assets" / "samples" / "tickets.jsonl"
STEPS = 12
PR_SET_PDEATHSIG = 1
ADAPTER = "adapter_model.safetensors"
QUIET = {"OPENBLAS_NUM_THREADS": "1", "JE_ARROW_MALLOC_CONF": "background_thread:false"}
"""Keeps two libraries from starting threads while they are imported."""
TIMES = ("tokens_per_second", "memory_bytes")
SPEC: dict[str, Any] = {
    "name": "killed",
    "model": {"id": "tiny", "dtype": "float32"},
    "data": {"dataset": "tickets", "max_length": 128, "eval_fraction": 0.05},
    "objective": {"kind": "sft"},
    "tuner": {"kind": "lora", "rank": 4, "dropout": 0.1},
    "training": {
        "learning_rate": 1e-3,
        "max_steps": STEPS,
        "eval_every_steps": 4,
        "save_every_steps": 2,
        "batch_size": 2,
        "gradient_accumulation": 2,
        "precision": "fp32",
    },
}


def import_all() -> None:
    """What a trainer imports, brought in once; imports start no thread."""
    import datasets as _datasets  # noqa: F401
    import peft  # noqa: F401
    import transformers  # noqa: F401
    import trl  # noqa: F401
    from transformers import Trainer  # noqa: F401
    from trl import SFTConfig, SFTTrainer  # noqa: F401

    from engine.models import loading  # noqa: F401
    from engine.runtime import answers, building, start, trainer, watching  # noqa: F401


@dataclass(slots=True)
class Kills:
    """What came of it."""

    home: Home
    draw: random.Random
    expected: tuple[str, dict[str, Any]] | None = None
    done: int = 0
    equal: int = 0
    moments: dict[str, int] = field(default_factory=dict)
    worst: list[str] = field(default_factory=list)

    @contextlib.contextmanager
    def store(self) -> Iterator[Store]:
        """Open only while nothing is forked."""
        opened = open_store(self.home.store_url)
        try:
            yield opened
        finally:
            opened.dispose()

    def prepare(self, model: Path) -> None:
        """List the model and the sample."""
        stored = store_rows(SAMPLE, self.home.datasets)
        found = stored.inspection
        new = NewVersion(
            name="tickets", sha256=stored.sha256, path=str(stored.path), row_kind=found.row_kind, format=found.format,
            rows=found.rows, usable_rows=found.usable_rows, bytes=stored.bytes, source_name="tickets.jsonl",
        )  # fmt: skip
        with self.store() as store, store.write() as session:
            models.add(session, NewModel(name="tiny", path=str(model), source="folder", bytes=1))
            datasets.add_version(session, new)

    def whole(self) -> float:
        """One run that nothing disturbs; returns its seconds."""
        began = time.monotonic()
        job_id = self._submit()
        assert self._attempt(job_id, kill=False)
        self.expected = self._result(job_id)
        return time.monotonic() - began

    def one(self) -> None:
        """One run that is killed once, and then goes on to its end; one that ended before its kill does not count."""
        job_id = self._submit()
        if self._attempt(job_id, kill=True):
            return
        assert self._attempt(job_id, kill=False)
        self.done += 1
        result = self._result(job_id)
        if result == self.expected:
            self.equal += 1
        else:
            self.worst.append(f"job {job_id}: {_difference(self.expected, result)}")

    def _submit(self) -> int:
        spec = parse(SPEC).model_dump(mode="json")
        with self.store() as store, store.write() as session:
            options = SubmitOptions(max_attempts=5)
            return jobs.submit(session, kind="train", name="killed", spec=spec, lane="gpu", options=options).id

    def _attempt(self, job_id: int, *, kill: bool) -> bool:
        """Claim, fork, and kill or wait; whether it ended by itself, and well."""
        with self.store() as store, store.write() as session:
            holder = Holder(f"{host()}:{os.getpid()}", host(), boot_id())
            taken = jobs.claim(session, holder, lanes=["gpu"], lease_s=600)
        assert taken is not None and taken[0].job_id == job_id
        claim = taken[0]
        pid = self._fork(claim)
        moment = self._wait_and_kill(pid, claim) if kill else None
        _, status = os.waitpid(pid, 0)
        code = os.waitstatus_to_exitcode(status)
        marker = self.home.runs / str(job_id) / str(claim.token) / "result.json"
        told = json.loads(marker.read_text()) if marker.exists() else {}
        with self.store() as store, store.write() as session:
            if code == 0 and told.get("ok"):
                jobs.settle(session, claim, Settlement(State.SUCCEEDED, reason="done", result=told["result"]))
                return True
            if code != -signal.SIGKILL:
                raise RuntimeError(f"ended with {code}: {told} {self.home.log(job_id).read_text()[-3000:]}")
            jobs.settle(session, claim, Settlement("requeue", reason="killed", signal=9))
        self.moments[moment or "?"] = self.moments.get(moment or "?", 0) + 1
        return False

    def _fork(self, claim: jobs.Claim) -> int:
        assert len(os.listdir("/proc/self/task")) == 1, "a fork beside threads is not sound"
        pid = os.fork()
        if pid == 0:
            self._be_the_trainer(claim)
        return pid

    def _be_the_trainer(self, claim: jobs.Claim) -> None:
        from engine.runtime import child, trainer

        os.setsid()
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # a harness that is ended leaves no trainer behind
        log = os.open(self.home.log(claim.job_id), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        for number in (1, 2):
            os.dup2(log, number)
        sys.argv = ["trainer", str(claim.job_id), str(claim.token)]
        child.run(trainer.main)

    def _wait_and_kill(self, pid: int, claim: jobs.Claim) -> str:
        """Kill at a random moment of the training, half of the times in the middle of a save; names the moment."""
        folder = self.home.runs / str(claim.job_id) / str(claim.token)
        in_save, number = self.draw.random() < 0.5, self.draw.randrange(1, STEPS // 2 + 1)
        wanted = folder / f".tmp-{2 * number}-{claim.token}" if in_save else folder / f"checkpoint-{2 * number}"
        while _lives(pid) and not wanted.exists():
            time.sleep(0.0005)
        time.sleep(self.draw.uniform(0.0, 0.02 if in_save else 0.4))
        moment = "in a save" if list(folder.glob(".tmp-*")) else "between saves"
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        return moment

    def _result(self, job_id: int) -> tuple[str, dict[str, Any]]:
        """The bytes of the last adapter, and every curve but those of times."""
        with self.store() as store, store.read() as session:
            last = checkpoints.listing(session, job_id)[-1]
            curves = metrics.series(session, job_id, limit=100_000)
            state = jobs.get(session, job_id).state
        sha = hashlib.sha256((Path(last.path) / ADAPTER).read_bytes()).hexdigest()
        told = {name: curve for name, curve in curves.items() if name not in TIMES}
        return sha, {**told, "last": last.step, "state": str(state)}


def _lives(pid: int) -> bool:
    return start_time(pid) is not None and psutil.pid_exists(pid)


def _difference(expected: Any, found: Any) -> str:
    names = [name for name in expected[1] if expected[1][name] != found[1].get(name)]
    return f"adapter {'equal' if expected[0] == found[0] else 'differs'}, curves that differ: {names}"


def main() -> None:
    """Kill as often as asked; ends with 1 where one of them differs."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.kills")
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--home", type=Path, default=None)
    parser.add_argument("--model", type=Path, default=None)
    given = parser.parse_args()
    if any(os.environ.get(name) != value for name, value in QUIET.items()):  # the libraries read them when they load
        os.execve(sys.executable, [sys.executable, "-m", "tests.faults.kills", *sys.argv[1:]], {**os.environ, **QUIET})
    seed = secrets.randbelow(2**32) if given.seed is None else given.seed
    sys.stderr.write(f"--seed {seed}\n")
    with contextlib.ExitStack() as stack:
        root = given.home or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="atelier-kills-")))
        os.environ |= {"ATELIER_HOME": str(root), "ATELIER_TORCH_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        for name in ("ATELIER_LIFELINE", "ATELIER_STORE"):
            os.environ.pop(name, None)
        model = given.model or tiny_model(root)
        import_all()
        kills = Kills(Home.from_environment().ensure(), random.Random(seed))
        _in_a_child(lambda: kills.prepare(model))
        whole_s = kills.whole()
        began = time.monotonic()
        while kills.done < given.kills:
            kills.one()
            sys.stderr.write(f"{kills.done}: {kills.equal} equal {kills.moments}\n")
        with kills.store() as store:
            check_invariants(store, kills.home)
    summary = {
        "seed": seed, "kills": kills.done, "equal": kills.equal, "moments": kills.moments,
        "differences": kills.worst, "undisturbed_s": round(whole_s, 1), "seconds": round(time.monotonic() - began, 1),
    }  # fmt: skip
    sys.stdout.write(json.dumps(summary) + "\n")
    sys.exit(kills.equal != kills.done)


def _in_a_child(work: Callable[[], None]) -> None:
    """Do what starts threads in a process that ends with it."""
    pid = os.fork()
    if pid == 0:
        work()
        os._exit(0)
    if os.waitpid(pid, 0)[1] != 0:
        raise RuntimeError("the home could not be prepared")


def tiny_model(root: Path) -> Path:
    """Make the tiny model in a process of its own: making it starts threads."""
    folder = root / "tiny"
    starter = Path(sys.prefix) / "share" / "atelier" / "starter"
    script = "import sys; from pathlib import Path; from tests.fakes.tiny_model import write; write(*map(Path, sys.argv[1:]))"
    subprocess.run([sys.executable, "-c", script, str(starter), str(folder)], cwd=ROOT, check=True)
    return folder


if __name__ == "__main__":
    main()
