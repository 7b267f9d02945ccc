"""The same LoRA run in the studio, as a plain TRL script and in LLaMA-Factory: speed, memory, loss, first step.

`python -m tests.bench.peers DATA.jsonl [--llamafactory PYTHON] [--rounds 3] [--steps 12] [--quantization none|nf4] [--alone]`

DATA has a `question` and an `answer` a line, of which the first 400 are taken. One after the other within a round,
each in a process of its own, with the same model, rows, rank 16 on all linear layers, 4 × 2 rows a step, bfloat16 and
at most 512 tokens. Tokens are those of the rows, without padding; the clock runs from the end of step 1 to the end of
the last step, and for the first step from the start of the command.

LLaMA-Factory lives in an environment of its own: PYTHON is that environment's interpreter.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.studio import ROOT, Studio, studio

NUM_ROWS = 400


@dataclass(frozen=True)
class Result:
    tokens_per_second: float
    first_step_s: float
    peak_mb: float
    losses: list[float]


def of_marks(marks: list[dict[str, Any]], began: float, peak_mb: float) -> Result:
    """From one mark a step: its time, all tokens up to its end, and its loss."""
    speed = (marks[-1]["tokens"] - marks[0]["tokens"]) / (marks[-1]["at"] - marks[0]["at"])
    return Result(speed, marks[0]["at"] - began, peak_mb, [float(mark["loss"]) for mark in marks])


def run(command: list[str], *, folder: Path, environment: dict[str, str]) -> tuple[float, float, str]:
    """When a command began, its peak memory in MB (of all processes waited for by it), and what it printed."""
    began = time.time()
    with (folder / "out").open("w") as out, (folder / "err").open("w") as err:
        child = subprocess.Popen(command, cwd=folder, env=environment, stdout=out, stderr=err)
        _, status, usage = os.wait4(child.pid, 0)
    if status:
        raise RuntimeError((folder / "err").read_text()[-2000:])
    return began, usage.ru_maxrss / 1024, (folder / "out").read_text()


@dataclass(frozen=True)
class Setting:
    model: str
    data: Path
    folder: Path
    steps: int
    quantization: str
    llamafactory: str | None


def plain_trl(setting: Setting, _studio: Studio) -> Result:
    command = [sys.executable, "-m", "tests.bench.plain_sft", setting.model, str(setting.folder / "trl.jsonl")]
    command += [str(setting.folder / "trl"), str(setting.steps), setting.quantization]
    began, peak, said = run(command, folder=setting.folder, environment={**os.environ, "PYTHONPATH": str(ROOT)})
    return of_marks(json.loads(said.strip().splitlines()[-1]), began, peak)


def atelier(setting: Setting, one: Studio) -> Result:
    spec = {
        "name": "bench",
        "model": {"quantization": setting.quantization},
        "data": {"dataset": "rows", "eval_fraction": 0.0, "max_length": 512},
        "tuner": {"kind": "lora", "rank": 16, "alpha": 32},
        "training": {
            "max_steps": setting.steps, "learning_rate": 2e-4, "batch_size": 4, "gradient_accumulation": 2,
            "schedule": "linear", "warmup_ratio": 0.0, "save_every_steps": 1000,
        },
    }  # fmt: skip
    began = time.time()
    job_id = one.train(spec)
    with contextlib.closing(sqlite3.connect(one.home / "store.db")) as connection:
        found = connection.execute(
            "select name, at, value from metric where job_id=? and name in ('num_tokens', 'loss', 'memory_bytes')"
            " order by step",
            (job_id,),
        ).fetchall()
    tokens = [(at, value) for name, at, value in found if name == "num_tokens"]
    losses = [value for name, _, value in found if name == "loss"]
    marks = [{"at": at, "tokens": value, "loss": loss} for (at, value), loss in zip(tokens, losses, strict=True)]
    return of_marks(marks, began, max(value for name, _, value in found if name == "memory_bytes") / 2**20)


def llamafactory(setting: Setting, _studio: Studio) -> Result:
    """Its log has a line a step, written when the step is done: the time is that of the line's arrival."""
    folder = setting.folder / f"factory-{time.time_ns()}"
    (folder / "data").mkdir(parents=True)
    (folder / "torchaudio").mkdir()
    (folder / "torchaudio" / "__init__.py").touch()
    (folder / "data" / "rows.jsonl").write_text((setting.folder / "factory.jsonl").read_text())
    columns = {"prompt": "question", "response": "answer"}
    (folder / "data" / "dataset_info.json").write_text(
        json.dumps({"rows": {"file_name": "rows.jsonl", "columns": columns}})
    )
    spec = {
        "model_name_or_path": setting.model, "stage": "sft", "do_train": True, "finetuning_type": "lora",
        "lora_rank": 16, "lora_alpha": 32, "lora_target": "all", "dataset": "rows", "dataset_dir": "data",
        "template": "chatml", "cutoff_len": 512, "output_dir": "out", "logging_steps": 1, "save_strategy": "no",
        "per_device_train_batch_size": 4, "gradient_accumulation_steps": 2,
        "learning_rate": 2e-4, "max_steps": setting.steps, "bf16": True, "use_cpu": True, "report_to": "none",
        "include_num_input_tokens_seen": "non_padding", "seed": 42, "disable_tqdm": True,
    }  # fmt: skip
    if setting.quantization == "nf4":
        spec |= {"quantization_bit": 4, "quantization_method": "bnb", "quantization_type": "nf4"}
    (folder / "run.yaml").write_text(json.dumps(spec))
    environment = {**os.environ, "PYTHONPATH": str(folder), "DISABLE_VERSION_CHECK": "1", "HF_HUB_OFFLINE": "1"}
    if threads := os.environ.get("ATELIER_TORCH_THREADS"):
        environment["OMP_NUM_THREADS"] = threads
    began = time.time()
    command = [str(setting.llamafactory), "-c", "from llamafactory.cli import main; main()", "train", "run.yaml"]
    with (folder / "log").open("w") as log:
        child = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
        marks = watch(child, folder / "out" / "trainer_log.jsonl")
    if child.returncode:
        raise RuntimeError((folder / "log").read_text()[-3000:])
    return of_marks(marks, began, resource_of(child))


def watch(child: subprocess.Popen[bytes], log: Path) -> list[dict[str, Any]]:
    """A mark for each step, as its line arrives; waits for the end of the process."""
    marks: list[dict[str, Any]] = []
    while True:
        ended = reap(child)
        lines = log.read_text().splitlines() if log.exists() else []
        for line in lines[len(marks) :]:
            told = json.loads(line)
            if "loss" in told:
                marks.append({"at": time.time(), "tokens": told["total_tokens"], "loss": told["loss"]})
        if ended:
            return marks
        time.sleep(0.02)


def reap(child: subprocess.Popen[bytes]) -> bool:
    """Whether it has ended; its usage is kept on it."""
    pid, status, usage = os.wait4(child.pid, os.WNOHANG)
    if not pid:
        return False
    child.returncode = os.waitstatus_to_exitcode(status)
    child.usage = usage  # type: ignore[attr-defined]
    return True


def resource_of(child: subprocess.Popen[bytes]) -> float:
    usage: resource.struct_rusage = child.usage  # type: ignore[attr-defined]
    return usage.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--llamafactory")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--quantization", default="none", choices=("none", "nf4"))
    parser.add_argument("--alone", action="store_true", help="the studio's side only")
    asked = parser.parse_args()
    sides: dict[str, Callable[[Setting, Studio], Result]] = {"atelier": atelier}
    if not asked.alone:
        sides["plain TRL"] = plain_trl
    if asked.llamafactory and not asked.alone:
        sides["LLaMA-Factory"] = llamafactory
    rows = [json.loads(line) for line in asked.data.read_text(encoding="utf-8").splitlines()[:NUM_ROWS]]
    with tempfile.TemporaryDirectory() as made, studio() as one:
        folder = Path(made)
        write = lambda name, lines: (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines))  # noqa: E731
        write("factory.jsonl", rows)
        talks = [
            ([{"role": "user", "content": row["question"]}], [{"role": "assistant", "content": row["answer"]}])
            for row in rows
        ]
        write("trl.jsonl", [{"prompt": prompt, "completion": answer} for prompt, answer in talks])
        write("rows.jsonl", [{"messages": prompt + answer} for prompt, answer in talks])
        one.call("data", "add", str(folder / "rows.jsonl"), "--name", "rows")
        model = one.call("model", "list")["items"][0]["path"]
        setting = Setting(model, folder / "rows.jsonl", folder, asked.steps, asked.quantization, asked.llamafactory)
        found: dict[str, list[Result]] = {name: [] for name in sides}
        for number in range(asked.rounds):
            for name, side in sides.items():
                result = side(setting, one)
                found[name].append(result)
                print(number, name, f"{result.tokens_per_second:.0f} tokens/s", f"first step {result.first_step_s:.1f} s",
                      f"{result.peak_mb:.0f} MB", "losses", [round(loss, 3) for loss in result.losses[-3:]], flush=True)  # fmt: skip
    report(found)


def report(found: dict[str, list[Result]]) -> None:
    """Medians and ranges, and the studio's speed as a multiple of each other's within the rounds."""
    for name, results in found.items():
        speeds = [one.tokens_per_second for one in results]
        ratios = [
            ours.tokens_per_second / one.tokens_per_second for ours, one in zip(found["atelier"], results, strict=True)
        ]
        print(
            f"{name:<14} {statistics.median(speeds):6.0f} tokens/s ({min(speeds):.0f}–{max(speeds):.0f})"
            f"  first step {statistics.median(one.first_step_s for one in results):5.1f} s"
            f"  peak {statistics.median(one.peak_mb for one in results):5.0f} MB"
            f"  mean loss of the last 4 steps {statistics.median(statistics.mean(one.losses[-4:]) for one in results):.3f}"
            f"  atelier is {statistics.median(ratios):.2f} times as fast"
        )


if __name__ == "__main__":
    main()
