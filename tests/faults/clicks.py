"""A page's process that dies in the middle of what it was asked: forked again and again from one that imported it all.

`python -m tests.faults.clicks HOME WHAT NUMBER SEED`: prints one JSON line for each that acknowledged before its death.
The parent opens no store and starts no thread, so that a child begins as a process of its own would.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from app import staging, submission
from engine.specs.home import Home
from engine.specs.job import parse
from storage import messages
from storage.database import open_store
from storage.jobs import SubmitOptions
from storage.targets import resolve

LONGER = 1.3
"""The latest kill, as a multiple of what the first, undisturbed turn took."""
SPEC = {
    "name": "clicked",
    "model": {"id": "base"},
    "data": {"dataset": "rows"},
    "objective": {"kind": "sft"},
    "tuner": {"kind": "lora"},
    "training": {"learning_rate": 1e-4},
}
UPLOAD_BYTES = 2_000_000


def submit(home: Home, key: str) -> object:
    """What the Start button does."""
    store = open_store(home.store_url)
    with store.write() as session:
        made = submission.submit(session, parse(SPEC), SubmitOptions(key))
    return made.id


def upload(home: Home, key: str) -> object:
    """What a chosen file does."""
    source = home.root.parent / f"upload-{key}"
    source.write_bytes(key.encode().ljust(16) * (UPLOAD_BYTES // 16))
    return staging.stage(home, source)


def chat(home: Home, key: str) -> object:
    """What a sent message does."""
    store = open_store(home.store_url)
    with store.write() as session:
        targets = [resolve(session, "base:base")] * 2
        return messages.ask(session, conversation_id=None, text=key, targets=targets, params={"seed": 1})[1]


ACTIONS: dict[str, Callable[[Home, str], object]] = {"submit": submit, "upload": upload, "chat": chat}


def main() -> None:
    """Fork, kill, and say what was acknowledged."""
    home = Home.from_environment({"ATELIER_HOME": sys.argv[1], "ATELIER_STORE": os.environ.get("ATELIER_STORE", "")})
    what, number, draw = sys.argv[2], int(sys.argv[3]), random.Random(sys.argv[4])
    began = time.monotonic()
    turn(home, what, 0, lives_s=None)
    took = time.monotonic() - began
    for one in range(1, number):
        turn(home, what, one, lives_s=draw.uniform(0.0, LONGER * took))


def turn(home: Home, what: str, number: int, *, lives_s: float | None) -> None:
    """One process that begins the thing and is killed after so many seconds; None lets it come to its end."""
    key = f"{what}-{number}"
    said, saying = os.pipe()
    child = os.fork()
    if child == 0:
        answer = json.dumps(ACTIONS[what](home, key)).encode()
        os.write(saying, answer)
        os._exit(0)
    os.close(saying)
    if lives_s is not None:
        time.sleep(lives_s)
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    if heard := os.read(said, 4096):
        sys.stdout.write(json.dumps({"key": key, "answer": json.loads(heard)}) + "\n")
        sys.stdout.flush()
    os.close(said)


if __name__ == "__main__":
    assert Path("/proc/self/task").is_dir() and len(os.listdir("/proc/self/task")) == 1
    main()
