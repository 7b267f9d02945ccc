"""The named points of death: inert by default, once where wanted, and all of them there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from engine.runtime import crashing
from engine.runtime.crashing import CRASH_POINTS, crash_here

RUNTIME = Path(crashing.__file__).parent


def die(tmp_path, at, **more):
    code = "from engine.runtime.crashing import crash_here; crash_here('worker_claimed')"
    environment = {**os.environ, "PYTHONPATH": str(RUNTIME.parents[1]), "ATELIER_CRASH_AT": at, **more}
    return subprocess.run([sys.executable, "-c", code], env=environment, cwd=tmp_path, check=False).returncode


def test_a_named_point_ends_the_process_like_a_kill(tmp_path):
    assert die(tmp_path, "worker_claimed") == -9
    assert die(tmp_path, "worker_settled") == 0


def test_it_can_be_only_the_first_who_dies(tmp_path):
    once = str(tmp_path / "once")
    assert [die(tmp_path, "worker_claimed", ATELIER_CRASH_ONCE=once) for _ in range(2)] == [-9, 0]


def test_without_the_variable_nothing_happens(monkeypatch):
    monkeypatch.delenv("ATELIER_CRASH_AT", raising=False)
    for point in CRASH_POINTS:
        crash_here(point)


@pytest.mark.parametrize("point", CRASH_POINTS)
def test_every_point_stands_in_the_code_once(point):
    sources = [path.read_text(encoding="utf-8") for path in RUNTIME.glob("*.py")]
    assert sum(len(re.findall(rf'crash_here\("{point}"\)', text)) for text in sources) == 1
