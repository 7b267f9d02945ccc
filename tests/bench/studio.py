"""A studio of its own for a measurement: a temporary home, a worker, and the command line."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
ATELIER = Path(sys.executable).with_name("atelier")
SAMPLES = ROOT / "assets" / "samples"


class Studio:
    """Runs `atelier` commands on one home."""

    def __init__(self, home: Path, address: str) -> None:
        self.home, self.address = home, address
        self.environment = {**os.environ, "ATELIER_HOME": str(home)}

    def call(self, *arguments: str, timeout: float = 3600) -> dict[str, Any]:
        """Run one command with `--json` and return its document."""
        done = subprocess.run(
            [str(ATELIER), *arguments, "--json"], env=self.environment, capture_output=True, text=True, timeout=timeout
        )
        if done.returncode:
            raise RuntimeError(f"atelier {' '.join(arguments)} ended with {done.returncode}: {done.stderr[-2000:]}")
        return json.loads(done.stdout)

    def wait_for_worker(self) -> None:
        """Wait until the worker has listed itself."""
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            found = self.call("check")["problems"]
            if not any(one["code"] == "check_no_worker" for one in found):
                return
            time.sleep(0.5)
        raise RuntimeError("the worker did not start")

    def train(self, spec: dict[str, Any]) -> int:
        """Submit a run and wait for its end; return its id."""
        path = self.home / "spec.yaml"
        path.write_text(json.dumps(spec))
        return int(self.call("train", str(path), "--wait")["id"])


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def studio(*, ui: bool = False) -> Iterator[Studio]:
    """A studio with a live worker, and with `ui` its pages; gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="atelier-bench-") as folder:
        port = free_port()
        one = Studio(Path(folder), f"http://127.0.0.1:{port}")
        log = (Path(folder) / "worker.out").open("wb")
        command = ["up", "--port", str(port)] if ui else ["worker"]
        worker = subprocess.Popen([str(ATELIER), *command], env=one.environment, stdout=log, stderr=log)
        try:
            one.wait_for_worker()
            yield one
        finally:
            worker.send_signal(signal.SIGTERM)
            worker.wait(timeout=60)
            log.close()
