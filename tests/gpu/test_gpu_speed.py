"""Speed on a GPU against plain TRL, on shapes of real models with random weights. `make gpu` prints the figures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from engine.models.starter import default_folder

pytestmark = pytest.mark.gpu
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def cuda():
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.fail("no CUDA device: this check runs only where one is at hand")


def speed(*arguments: str) -> str:
    command = [sys.executable, "-m", "tests.gpu.speed", *arguments]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("shape", "ways"), [("8b", ("qlora", "lora")), ("1b", ("full",))])
def test_the_studio_is_no_slower_than_plain_trl(shape, ways, tmp_path, capsys):
    speed(str(tmp_path), "--make", shape, "--starter", str(default_folder()))
    for way in ways:
        found = [
            json.loads(speed(str(tmp_path), "--way", way, "--side", side).splitlines()[-1])
            for side in ("atelier", "trl")
        ]
        with capsys.disabled():
            print(json.dumps(found))
        ours, theirs = found
        assert (
            ours["tokens_per_second"] > theirs["tokens_per_second"]
            and ours["peak_memory_gb"] <= theirs["peak_memory_gb"]
        )
