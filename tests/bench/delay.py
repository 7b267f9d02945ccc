"""How far the browser is behind the trainer: from a point's commit in the store to its drawing, all charts open.

`python -m tests.bench.delay [--steps 60] [--pause 0.5]` runs a child that reports steps like a trainer.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time

from engine.specs.home import Home
from storage import jobs, metrics
from storage.database import open_store
from storage.jobs import Holder
from storage.metrics import Point
from tests.bench.browser import page_on
from tests.bench.studio import ATELIER, free_port

NAMES = (
    "loss",
    "eval_loss",
    "learning_rate",
    "grad_norm",
    "tokens_per_second",
    "rewards/chosen",
    "rewards/rejected",
    "rewards/margins",
    "rewards/accuracies",
)
LISTEN = """() => { window.__drawn = []; document.addEventListener('atelier:points', event => {
  for (const step of event.detail.steps ?? []) window.__drawn.push([step, Date.now()]); }); }"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--pause", type=float, default=0.5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["ATELIER_HOME"] = folder
        home = Home.from_environment().ensure()
        store = open_store(home.store_url)
        spec = {
            "data": {"dataset": "d", "version": 1},
            "model": {"id": "m"},
            "objective": {"kind": "dpo"},
            "tuner": {"kind": "lora"},
            "training": {"epochs": 1},
        }
        with store.write() as session:
            jobs.submit(session, kind="train", name="delay", spec=spec, lane="gpu")
            claim, job = jobs.claim(session, Holder("bench", "other-host", "boot"), lanes=["gpu"], lease_s=3600)
        port = free_port()
        up = subprocess.Popen(
            [str(ATELIER), "up", "--port", str(port)],
            env=dict(os.environ),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(10)
        try:
            with page_on(f"http://127.0.0.1:{port}/runs?run={job.id}") as page:
                page.wait_for_selector(".at-curves")
                page.evaluate(LISTEN)
                written = {}
                for step in range(1, arguments.steps + 1):
                    points = [Point(name, step, 1.0 / step) for name in NAMES]
                    with store.write() as session:
                        metrics.append(session, claim, points)
                        jobs.progress(session, claim, step=step, total=arguments.steps)
                    written[step] = time.time() * 1000
                    time.sleep(arguments.pause)
                time.sleep(2)
                drawn = page.evaluate("window.__drawn")
                charts = page.locator(".at-curves canvas").count()
        finally:
            up.terminate()
            up.wait(timeout=60)
    first: dict[int, float] = {}
    for step, at in drawn:
        first.setdefault(int(step), at)
    behind = [(first[step] - at) / 1000 for step, at in written.items() if step in first]
    print(
        json.dumps(
            {
                "charts": charts,
                "points": len(behind),
                "median_s": round(statistics.median(behind), 3),
                "worst_s": round(max(behind), 3),
            }
        )
    )


if __name__ == "__main__":
    main()
