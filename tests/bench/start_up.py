"""What starting costs: `import app.main` against `import gradio`, and `atelier up` to the page.

`python -m tests.bench.start_up [--rounds 7]`
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

from tests.bench.studio import ATELIER, ROOT, free_port

CODE = "import resource,time; t=time.perf_counter(); import {module}; print(time.perf_counter()-t, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/1024)"


def one_import(module: str) -> tuple[float, float]:
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(module=module)], capture_output=True, text=True, check=True, cwd=ROOT
    )
    seconds, megabytes = map(float, done.stdout.split())
    return seconds, megabytes


def to_the_page() -> float:
    """Seconds from the command to the first whole page, on a new home with the environment in place."""
    import os

    port = free_port()
    with tempfile.TemporaryDirectory() as home:
        began = time.perf_counter()
        process = subprocess.Popen(
            [str(ATELIER), "up", "--port", str(port)],
            env={**os.environ, "ATELIER_HOME": home},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            while True:
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=2).read()
                    return time.perf_counter() - began
                except OSError:
                    time.sleep(0.05)
        finally:
            process.terminate()
            process.wait(timeout=60)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    one_import("gradio"), one_import("app.main")
    pairs = [(one_import("gradio"), one_import("app.main")) for _ in range(rounds)]
    ratio = statistics.median(ours[0] / theirs[0] for theirs, ours in pairs)
    print(
        f"import gradio   median {statistics.median(p[0][0] for p in pairs):.2f} s, {statistics.median(p[0][1] for p in pairs):.0f} MB"
    )
    print(
        f"import app.main median {statistics.median(p[1][0] for p in pairs):.2f} s, {statistics.median(p[1][1] for p in pairs):.0f} MB"
    )
    print(f"ratio, pair by pair, median {ratio:.2f} of {rounds}")
    pages = [to_the_page() for _ in range(3)]
    print(f"atelier up to the page: median {statistics.median(pages):.1f} s ({min(pages):.1f}–{max(pages):.1f})")


if __name__ == "__main__":
    main()
