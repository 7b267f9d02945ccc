"""Eight processes claim and settle a thousand jobs on each store: distinct claims, errors, seconds.

`python -m tests.bench.claims [--jobs 1000] [--processes 8] [--rounds 3]`
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

from storage import jobs
from storage.database import Store
from storage.states import State
from tests.bench.stores import NAMES, store_of

ROOT = Path(__file__).resolve().parents[2]
CLAIM_ALL = """
import json, sys
from sqlalchemy.exc import DBAPIError
from storage import jobs
from storage.database import open_store
from storage.jobs import Holder, Settlement
from storage.patience import patiently
from storage.states import State

store, me, claimed, errors = open_store(sys.argv[1]), sys.argv[2], [], 0
def settle(claim):
    with store.write() as session:
        jobs.settle(session, claim, Settlement(State.SUCCEEDED))
sys.stdout.write("ready\\n"); sys.stdout.flush()
sys.stdin.readline()
while True:
    try:
        with store.write() as session:
            taken = jobs.claim(session, Holder(me, "host", "boot"), lanes=["gpu"], lease_s=60)
        if taken is None:
            break
        claimed.append((taken[0].job_id, taken[0].token))
        patiently(lambda: settle(taken[0]), patience_s=600)
    except DBAPIError:
        errors += 1
print(json.dumps([claimed, errors]))
"""


def race(store: Store, number: int, processes: int) -> dict[str, float]:
    with store.write() as session:
        for one in range(number):
            jobs.submit(session, kind="train", name=f"run {one}", spec={}, lane="gpu")
    url = store.url.render_as_string(hide_password=False)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": ROOT}
    workers = [
        subprocess.Popen([sys.executable, "-c", CLAIM_ALL, url, f"worker-{one}"], **pipes) for one in range(processes)
    ]
    for worker in workers:
        assert worker.stdout.readline() == "ready\n"
    began = time.perf_counter()
    for worker in workers:
        worker.stdin.write("go\n")
        worker.stdin.flush()
    answers = [json.loads(worker.communicate(timeout=600)[0]) for worker in workers]
    seconds = time.perf_counter() - began
    claims = [tuple(claim) for claimed, _ in answers for claim in claimed]
    with store.read() as session:
        done = jobs.counts(session)[State.SUCCEEDED]
    return {
        "claims": len(claims),
        "distinct": len(set(claims)),
        "settled": done,
        "errors": sum(errors for _, errors in answers),
        "seconds": round(seconds, 2),
        "least_of_a_process": min(len(claimed) for claimed, _ in answers),
        "most_of_a_process": max(len(claimed) for claimed, _ in answers),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    for name in NAMES:
        rounds = []
        for _ in range(arguments.rounds):
            with store_of(name) as store:
                rounds.append(race(store, arguments.jobs, arguments.processes))
            print(name, json.dumps(rounds[-1]), flush=True)
        print(f"{name:<11} median {statistics.median(one['seconds'] for one in rounds):.2f} s")


if __name__ == "__main__":
    main()
