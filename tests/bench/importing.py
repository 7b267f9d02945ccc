"""A large file of JSON lines: seconds and peak memory of an import, every check on, beside `datasets.load_dataset`.

`python -m tests.bench.importing [--megabytes 1000] [--rounds 2]`

Both run in processes of their own, one after the other, in turns. Memory is measured in one more run of each, as
looking costs time: the sum of the proportional set sizes of a process and its children, ten times a second; pages of
the file that are only mapped count for nobody else.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]
OURS = """
import sys
from pathlib import Path
from engine.data.importer import store_rows
if __name__ == "__main__":
    stored = store_rows(Path(sys.argv[1]), Path(sys.argv[2]), unfinished=Path(sys.argv[2]) / ".incoming-1-1")
    print(stored.inspection.rows, stored.inspection.problem_count)
"""
THEIRS = """
import sys
import datasets
if __name__ == "__main__":
    datasets.disable_progress_bars()
    print(len(datasets.load_dataset("json", data_files=sys.argv[1], cache_dir=sys.argv[2], split="train")))
"""
WORDS = [
    "the",
    "model",
    "learns",
    "a",
    "task",
    "from",
    "rows",
    "of",
    "text",
    "that",
    "people",
    "wrote",
    "about",
    "orders",
    "returns",
    "prices",
    "and",
    "delays",
]


def write_rows(path: Path, megabytes: int) -> None:
    """Conversations of about 600 bytes, all different, some with characters beyond ASCII."""
    draw = random.Random(7)
    with path.open("w", encoding="utf-8") as handle:
        written = number = 0
        while written < megabytes * 10**6:
            question, answer = (" ".join(draw.choices(WORDS, k=draw.randrange(20, 70))) for _ in range(2))
            turns = [{"role": "user", "content": f"{number}: {question} €?"}, {"role": "assistant", "content": answer}]
            written += handle.write(json.dumps({"messages": turns}, ensure_ascii=False) + "\n")
            number += 1


@dataclass(frozen=True, slots=True)
class Run:
    """Seconds, seconds of all processors (which other work disturbs least), and the most megabytes, if watched."""

    seconds: float
    worked: float
    megabytes: float


def run(folder: Path, code: str, path: Path, *, watched: bool) -> Run:
    """One import of a file in a process of its own."""
    script = folder / "run.py"
    script.write_text(code)
    with tempfile.TemporaryDirectory(dir=folder) as target:
        began, most, worked = time.monotonic(), 0, _worked()
        environment = {"PYTHONPATH": str(ROOT), "HF_DATASETS_OFFLINE": "1", "HOME": target}
        child = subprocess.Popen([sys.executable, script, path, target], stdout=subprocess.PIPE, env=environment)
        while watched and child.poll() is None:
            most = max(most, _memory(child.pid))
            time.sleep(0.1)
        said = child.communicate()[0].decode().strip()
        found = Run(time.monotonic() - began, _worked() - worked, most / 1e6)
        assert child.returncode == 0
        print(f"  {said}: {found}")
        return found


def _worked() -> float:
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def _memory(pid: int) -> int:
    with contextlib.suppress(psutil.Error):
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
        return sum(one.memory_full_info().pss for one in family)
    return 0


def main() -> None:
    """Run in turns and print medians."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.importing")
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=2)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="atelier-import-") as folder:
        path = Path(folder) / "rows.jsonl"
        write_rows(path, given.megabytes)
        found: dict[str, list[Run]] = {"theirs": [], "ours": []}
        codes = {"theirs": THEIRS, "ours": OURS}
        for _ in range(given.rounds):
            for name, code in codes.items():
                found[name].append(run(Path(folder), code, path, watched=False))
        memory = {name: run(Path(folder), code, path, watched=True).megabytes for name, code in codes.items()}
    seconds = {name: statistics.median(one.seconds for one in runs) for name, runs in found.items()}
    worked = {name: statistics.median(one.worked for one in runs) for name, runs in found.items()}
    print(f"seconds {seconds}, ratio {seconds['ours'] / seconds['theirs']:.2f}; most memory in MB {memory}")
    print(f"seconds of all processors {worked}, ratio {worked['ours'] / worked['theirs']:.2f}")


if __name__ == "__main__":
    main()
