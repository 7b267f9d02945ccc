"""How long a run stands still after `kill -9` of its trainer: `python -m tests.faults.recovery [--kills 12] [--real 3]`.

From the signal to the first step of the next attempt, with the pause before a retry set to nothing: by default that
pause is 30 s and doubles.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path

from engine.specs.job import parse
from storage import jobs
from storage.jobs import SubmitOptions
from tests.faults.house import House
from tests.faults.kills import SPEC, Kills, tiny_model

QUICK = {"ATELIER_BACKOFF_S": 0, "ATELIER_LEASE_S": 60, "ATELIER_GRACE_S": 120}


def dryruns(kills: int) -> list[float]:
    """Seconds for the dryrun trainer: the worker's look, the claim, a Python start, the checkpoint's check."""
    with tempfile.TemporaryDirectory(prefix="atelier-recovery-") as folder:
        house = House(Path(folder) / "house", seed=1)
        house.start(**QUICK)
        job_id = house.submit(steps=100_000, save_every=20, attempts=1000)
        found = []
        for token in range(1, kills + 1):
            held = house.reach(job_id, 25 * token, token=token)
            assert held.pid is not None
            os.kill(held.pid, signal.SIGKILL)
            began = time.monotonic()
            house.wait(lambda token=token: int(house.steps()[-1][3]) > token, 60)
            found.append(float(next(line[6] for line in house.steps() if int(line[3]) > token)) - began)
        house.close()
        return found


def real(kills: int) -> list[float]:
    """Seconds for the real trainer of the tiny model: mostly the imports of its libraries."""
    with tempfile.TemporaryDirectory(prefix="atelier-recovery-") as folder:
        house = House(Path(folder) / "house", seed=1)
        Kills(house.home, random.Random(1)).prepare(tiny_model(Path(folder)))
        long = {**SPEC, "training": {**SPEC["training"], "max_steps": 2000, "save_every_steps": 5}}
        spec = parse(long).model_dump(mode="json")
        with house.store.write() as session:
            options = SubmitOptions(max_attempts=100)
            job_id = jobs.submit(session, kind="train", name="real", spec=spec, lane="gpu", options=options).id
        house.start(**QUICK, ATELIER_FAULT_REAL=1, ATELIER_TORCH_THREADS=1)
        found = []
        for token in range(1, kills + 1):
            held = house.reach(job_id, 7 * token, token=token, seconds=180)
            assert held.pid is not None
            os.kill(held.pid, signal.SIGKILL)
            began = time.monotonic()
            house.wait(lambda token=token: house.job(job_id).token > token, 60)
            house.wait(lambda token=token: house.attempts(job_id)[token].resumed_from_step is not None, 120)
            resumed = house.attempts(job_id)[token].resumed_from_step or 0
            house.wait(lambda resumed=resumed: (house.job(job_id).progress_step or 0) > resumed, 120)
            found.append(time.monotonic() - began)
        house.ask(jobs.cancel, job_id)
        house.finish(job_id)
        house.close()
        return found


def main() -> None:
    """Measure both."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.recovery")
    parser.add_argument("--kills", type=int, default=12)
    parser.add_argument("--real", type=int, default=3)
    given = parser.parse_args()
    for name, values in (("dryrun", dryruns(given.kills)), ("real", real(given.real) if given.real else [])):
        if values:
            told = {"median_s": round(statistics.median(values), 2), "worst_s": round(max(values), 2), "n": len(values)}
            sys.stdout.write(json.dumps({name: told}) + "\n")


if __name__ == "__main__":
    main()
