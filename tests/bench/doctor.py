"""How long the doctor's checks take, and how much memory: `python -m tests.bench.doctor [--rows N] [--checks a,b]`.

Each check runs in a process of its own over the same file of question-and-answer rows, a fiftieth of them copies,
a fiftieth near copies.
"""

from __future__ import annotations

import argparse
import random
import resource
import subprocess
import sys
import tempfile
import time
from itertools import accumulate
from pathlib import Path

from engine.data.doctor.examination import examine, setup_of
from engine.data.doctor.reading import iterate_seen
from engine.data.rows import RowWriter
from engine.specs.versions import CHECKS

READING = "(reading)"


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--rows", type=int, default=100_000)
    arguments.add_argument("--checks", default=",".join((READING, *CHECKS, "all")))
    arguments.add_argument("--one", nargs=2, metavar=("CHECK", "FILE"))
    given = arguments.parse_args()
    if given.one:
        _measure(given.one[0], Path(given.one[1]))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.parquet"
        _write(path, given.rows)
        print(f"{given.rows:,} rows, {path.stat().st_size / 1e6:.0f} MB stored")
        for check in given.checks.split(","):
            subprocess.run([sys.executable, "-m", "tests.bench.doctor", "--one", check, str(path)], check=True)


def _measure(check: str, path: Path) -> None:
    chosen = {READING: (), "all": CHECKS}.get(check, (check,))
    start, computed = time.monotonic(), time.process_time()
    if chosen:
        found = examine(path, setup_of(path, path.parent), chosen)
        told = ", ".join(f"{one.key} {len(one.rows):,}" for one in found)
    else:
        told = f"{sum(1 for _ in iterate_seen(path)):,} rows"
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{check:16} {time.monotonic() - start:8.1f} s ({time.process_time() - computed:.1f} s of CPU) {peak_mb:8.0f} MB   {told}",
        flush=True,
    )


def _write(path: Path, count: int) -> None:
    draw = random.Random(1)
    words = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(2, 9))) for _ in range(20_000)]
    weights = list(accumulate(1 / (place + 5) for place in range(len(words))))
    with RowWriter(path, "conversation") as writer:
        earlier: list[list[str]] = []
        for number in range(count):
            kind = draw.random()
            if kind < 0.04 and earlier:
                said = list(draw.choice(earlier))
                if kind < 0.02:
                    said[draw.randrange(len(said))] = "changed"
            else:
                said = draw.choices(words, cum_weights=weights, k=80)
                earlier = [*earlier[-999:], said] if number % 10 == 0 else earlier
            turns = [("user", " ".join(said[:25])), ("assistant", " ".join(said[25:]))]
            messages = [{"role": role, "content": content} for role, content in turns]
            writer.add({"messages": messages, "task_type": draw.choice("abc")})


if __name__ == "__main__":
    main()
