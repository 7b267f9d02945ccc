"""Whether a process is the one that was started then: told by a clock that nobody sets."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from app import crew
from engine.runtime.machine import session_of
from engine.specs.living import is_alive, start_time
from storage import workers
from storage.database import open_store


def test_a_clock_that_is_set_makes_no_living_process_a_stranger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel moves the time of its boot with the clock."""
    store = open_store(f"sqlite:///{tmp_path / 'store.db'}")
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
    started = start_time(child.pid)
    with store.write() as session:
        workers.add(session, workers.NewWorker(socket.gethostname(), os.getpid(), start_time(os.getpid()), "boot"))
    boot = psutil.boot_time()
    monkeypatch.setattr(psutil._pslinux, "boot_time", lambda: boot + 2.0)
    try:
        assert is_alive(child.pid, started)
        assert session_of(child.pid, started) == [child.pid]
        with store.read() as session:
            assert [one.lives for one in crew.members(session)] == [True]
    finally:
        child.kill()
        child.wait()
    assert not is_alive(child.pid, started)


def test_another_start_is_another_process() -> None:
    started = start_time(os.getpid())
    assert started is not None
    assert is_alive(os.getpid(), started) and is_alive(os.getpid(), None)
    assert not is_alive(os.getpid(), started - 1) and not is_alive(None, started)


def test_what_has_ended_but_was_not_yet_waited_for_is_gone() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert (start_time(child.pid), is_alive(child.pid, None)) == (None, False)
    child.wait()
    assert start_time(child.pid) is None


def test_a_name_that_looks_like_the_rest_of_the_line_misleads_nobody(tmp_path: Path) -> None:
    sleep = shutil.which("sleep")
    assert sleep is not None
    named = tmp_path / "a) Z 1 2 \xe9"
    shutil.copy(sleep, named)
    child = subprocess.Popen([named, "60"])
    try:
        usual = start_time(os.getpid())
        assert usual is not None and (start_time(child.pid) or 0) >= usual
    finally:
        child.kill()
        child.wait()
