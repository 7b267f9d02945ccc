"""Half a minute of spoiled files, or five: none makes an import crash, hang or swell."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("seconds", [30, pytest.param(300, marks=pytest.mark.slow)])
def test_spoiled_files_end_in_rows_or_problems(tmp_path, seconds):
    done = subprocess.run(
        [sys.executable, "-m", "tests.data.fuzz", "--seconds", str(seconds), "--keep", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    counts = {ending: int(count) for count, ending in re.findall(r"(\d+) (rows|problems|refused)", done.stdout)}
    assert set(counts) == {"rows", "problems", "refused"} and sum(counts.values()) > 16 * seconds
