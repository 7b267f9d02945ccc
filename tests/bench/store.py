"""What the store costs a training step, and what one poll of a page costs over a million points, on each store.

`python -m tests.bench.store [--steps 400] [--points 1000000]`. A step writes as the trainer's reporter does when it has
nothing to put together: its points and its progress in one transaction, and a look at what was asked of the run. The
reporter itself writes four times a second at most, whatever the steps, in a thread of its own.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import insert

from storage import jobs, metrics
from storage.claims import Claim
from storage.database import Store
from storage.jobs import Holder
from storage.metrics import Point, metric
from tests.bench.stores import NAMES, store_of

ROOT = Path(__file__).resolve().parents[2]
CURVES = (
    "loss",
    "eval_loss",
    "learning_rate",
    "grad_norm",
    "tokens_per_second",
    "num_tokens",
    "memory_bytes",
    "entropy",
)
POLL = """
import json, resource, sys, time
from storage import metrics
from storage.database import open_store

store, names = open_store(sys.argv[1]), sys.argv[2].split(",")
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
def timed(call):
    began = time.perf_counter()
    with store.read() as session:
        found = call(session)
    return round(1000 * (time.perf_counter() - began), 1), found
timed(lambda session: metrics.cursor(session, 1))
before = peak()
first, curves = timed(lambda session: metrics.series(session, 1, names=names, limit=2000))
again = [timed(lambda session: metrics.series(session, 1, names=names, limit=2000))[0] for _ in range(2)]
version = timed(lambda session: metrics.cursor(session, 1))[1].version
newer = [timed(lambda session: metrics.newer(session, 1, after=version - 4, names=names))[0] for _ in range(5)]
idle = [timed(lambda session: metrics.newer(session, 1, after=version, names=names))[0] for _ in range(5)]
print(json.dumps({"drawn_points": sum(map(len, curves.values())), "series_ms": [first, *again], "newer_ms": newer,
 "nothing_new_ms": idle, "memory_mb": round(peak() - before, 1), "process_mb": round(peak(), 1)}))
"""


def begin(store: Store) -> Claim:
    with store.write() as session:
        jobs.submit(session, kind="train", name="bench", spec={}, lane="gpu")
        taken = jobs.claim(session, Holder("bench", "host", "boot"), lanes=["gpu"], lease_s=3600)
    assert taken is not None
    return taken[0]


def per_step(store: Store, claim: Claim, steps: int) -> dict[str, float]:
    def report(step: int) -> None:
        with store.write() as session:
            metrics.append(session, claim, [Point(name, step, 1.0 / step) for name in CURVES])
            jobs.progress(session, claim, step=step, total=steps)
            jobs.flags(session, claim)

    for step in range(1, 21):
        report(step)
    took, cpu = [], time.process_time()
    for step in range(21, steps + 21):
        took.append(timed(lambda step=step: report(step)))
    cpu = (time.process_time() - cpu) / steps
    return {
        "median_us": round(1e6 * statistics.median(took)),
        "p95_us": round(1e6 * sorted(took)[int(0.95 * len(took))]),
        "own_cpu_us": round(1e6 * cpu),
    }


def timed(call: Callable[[], None]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def fill(store: Store, claim: Claim, points: int) -> float:
    steps, began = points // len(CURVES), time.perf_counter()
    for first in range(1, steps + 1, 5000):
        with store.write() as session:
            rows = [
                {
                    "job_id": claim.job_id,
                    "name": name,
                    "step": step,
                    "token": claim.token,
                    "value": 2.0 / step + (step * 7919 % 1000) / 5000,
                    "at": float(step),
                    "version": 0,
                }
                for step in range(first, min(first + 5000, steps + 1))
                for name in CURVES
            ]
            session.execute(insert(metric), rows)
    for step in range(steps + 1, steps + 11):  # the newest, as a run writes them
        with store.write() as session:
            metrics.append(session, claim, [Point(name, step, 0.5) for name in CURVES])
    return time.perf_counter() - began


def poll(store: Store) -> dict[str, object]:
    url = store.url.render_as_string(hide_password=False)
    command = [sys.executable, "-c", POLL, url, ",".join(CURVES)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    found: dict[str, object] = json.loads(done.stdout)
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--points", type=int, default=1_000_000)
    arguments = parser.parse_args()
    for name in NAMES:
        with store_of(name) as store:
            print(name, "a step:", json.dumps(per_step(store, begin(store), arguments.steps)), flush=True)
        with store_of(name) as store:
            seconds = fill(store, begin(store), arguments.points)
            store.checkpoint()
            said = {"filled_s": round(seconds, 1), **poll(store)}
            print(name, f"{arguments.points} points:", json.dumps(said), flush=True)


if __name__ == "__main__":
    main()
