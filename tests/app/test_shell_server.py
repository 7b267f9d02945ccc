"""One web server on one home: the lock, the port, and who may open it to others."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import stat
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from app import auth, server
from app.server import ServeError, is_loopback, make_policy, serve
from engine.specs.home import Home
from storage import settings
from storage.database import open_store

ROOT = Path(__file__).resolve().parents[2]
SERVE = """
import sys
from pathlib import Path
from app.server import serve
from engine.specs.home import Home
root = Path(sys.argv[1])
serve(Home(root, f"sqlite:///{root / 'store.db'}"), "127.0.0.1", 0, ready=lambda address: print(address, flush=True))
"""


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path, f"sqlite:///{tmp_path / 'store.db'}")


@pytest.fixture
def policy(home):
    def made(host: str, environment: dict[str, str] | None = None, **kept):
        store = open_store(home.ensure().store_url)
        try:
            with store.write() as session:
                for key, value in kept.items():
                    settings.put(session, key, value)
            return make_policy(store, host, environment or {})
        finally:
            store.dispose()

    return made


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "studio.lan", ""])
def test_a_host_that_others_reach_needs_a_password(policy, host):
    with pytest.raises(ServeError) as refused:
        policy(host)
    assert refused.value.code == "no_password"


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.9.9.9"])
def test_loopback_needs_none(policy, host):
    assert is_loopback(host)
    made = policy(host)
    assert made.password is None and not made.any_address


def test_a_password_opens_the_host_under_its_names(policy):
    made = policy("0.0.0.0", {"ATELIER_PASSWORD": "sesame"}, host_names=["Studio.LAN"])
    assert auth.verify("sesame", made.password)
    assert made.knows_host("studio.lan") and made.knows_host("10.0.0.7:7860") and not made.knows_host("evil.example")


def test_the_password_file_of_the_settings_is_used(policy, tmp_path):
    file = tmp_path / "password"
    auth.write_password(file, "sesame")
    assert auth.verify("sesame", policy("127.0.0.1", password_file=str(file)).password)
    file.chmod(0o644)
    with pytest.raises(ServeError) as refused:
        policy("127.0.0.1")
    assert refused.value.code == "password_file_open"


def test_a_busy_port_is_named_with_the_next_one(home):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ServeError) as refused:
            serve(home, "127.0.0.1", port)
    assert (refused.value.code, refused.value.values["next"]) == ("port_busy", port + 1)


@pytest.mark.parametrize("host", ["no.such.host.invalid", "203.0.113.1"])
def test_a_host_that_is_not_here_is_refused(home, host):
    with pytest.raises(ServeError) as refused:
        serve(home, host, 0)
    assert refused.value.code in ("bad_host", "port_busy")


def _hold(path: str, held) -> None:
    import fcntl

    with open(path, "a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate(0)
        file.write("4242")
        file.flush()
        held.set()
        time.sleep(60)


def test_a_second_web_server_on_the_same_home_is_refused(home):
    home.ensure()
    spawn = multiprocessing.get_context("spawn")
    held = spawn.Event()
    other = spawn.Process(target=_hold, args=(str(home.ui_lock), held))
    other.start()
    try:
        assert held.wait(30)
        with pytest.raises(ServeError) as refused:
            serve(home, "127.0.0.1", 0)
        assert refused.value.code == "home_in_use" and refused.value.values["pid"] == "4242"
    finally:
        other.kill()
        other.join()
    with server._lock(home.ui_lock, home):
        pass


def test_every_refusal_has_its_sentence():
    from app.language import text

    codes = [
        "no_password",
        "port_busy",
        "bad_host",
        "home_in_use",
        "password_file_open",
        "password_file_empty",
        "password_file_unreadable",
    ]
    assert all(text(language).has(f"serve.{code}") for code in codes for language in ("en", "zh"))


@pytest.mark.timeout(120)
def test_the_server_answers_survives_sigkill_and_ends_on_sigterm(tmp_path):
    root = tmp_path / "home"

    def start() -> tuple[subprocess.Popen[str], str]:
        process = subprocess.Popen(
            [sys.executable, "-c", SERVE, str(root)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        return process, process.stdout.readline().strip()  # type: ignore[union-attr]

    process, address = start()
    try:
        assert urllib.request.urlopen(f"{address}/live/rail").status == 200
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process, address = start()
        answer = urllib.request.urlopen(f"{address}/runs")
        assert answer.status == 200 and "server" not in {name.lower() for name in answer.headers}
        process.terminate()
        assert process.wait(15) in (0, -signal.SIGTERM)
    finally:
        process.kill()
        process.wait()
    assert [stat.S_IMODE(folder.stat().st_mode) for folder in (root, root / "staging")] == [0o700, 0o700]
