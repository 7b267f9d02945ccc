"""Tokens per second of a LoRA run through the studio against the plain script, alternating.

`python -m tests.bench.throughput [--rounds 3] [--steps 16]`: without a browser, and with a Runs page open.
Both sides log each step and save every 8 steps; the clock runs from the end of step 1 to the end of the last step.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sqlite3
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from engine.runtime.device import cpu_has_bf16
from tests.bench.browser import page_on
from tests.bench.studio import SAMPLES, Studio, studio

SAVE_EVERY = 8


def through_the_studio(one: Studio, steps: int) -> float:
    spec = {
        "name": "bench",
        "data": {"dataset": "tickets", "eval_fraction": 0.0},
        "training": {
            "max_steps": steps,
            "learning_rate": 2e-4,
            "batch_size": 4,
            "gradient_accumulation": 2,
            "save_every_steps": SAVE_EVERY,
        },
    }
    job_id = one.train(spec)
    with contextlib.closing(sqlite3.connect(one.home / "store.db")) as connection:
        found = connection.execute(
            "select step, at, value from metric where job_id=? and name='num_tokens' order by step", (job_id,)
        ).fetchall()
    (_, began, first), (_, ended, last) = found[0], found[-1]
    return (last - first) / (ended - began)


def plain(model: str, steps: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-m",
            "tests.bench.plain_trl",
            model,
            str(SAMPLES / "tickets.jsonl"),
            folder,
            str(steps),
            str(SAVE_EVERY),
            "bf16" if cpu_has_bf16() else "fp32",
        ]
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, cwd=Path(__file__).resolve().parents[2]
        )
    return float(json.loads(done.stdout.strip().splitlines()[-1])["tokens_per_second"])


@contextlib.contextmanager
def nothing() -> Iterator[None]:
    yield


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=16)
    arguments = parser.parse_args()
    figures: dict[str, list[float]] = {"plain": [], "studio": [], "studio, Runs page open": []}
    with studio(ui=True) as one:
        one.call("data", "add", str(SAMPLES / "tickets.jsonl"), "--name", "tickets")
        model = one.call("model", "list")["items"][0]["path"]
        for number in range(arguments.rounds):
            figures["plain"].append(plain(model, arguments.steps))
            figures["studio"].append(through_the_studio(one, arguments.steps))
            with page_on(f"{one.address}/runs"):
                figures["studio, Runs page open"].append(through_the_studio(one, arguments.steps))
            print(number, {name: round(values[-1], 1) for name, values in figures.items()}, flush=True)
    base = statistics.median(figures["plain"])
    for name, values in figures.items():
        middle = statistics.median(values)
        print(
            f"{name:<26} median {middle:7.1f} tokens/s  ({min(values):.1f}–{max(values):.1f})  ratio {middle / base:.3f}"
        )


if __name__ == "__main__":
    main()
