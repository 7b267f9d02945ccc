"""Chat through the store against plain `generate` in one process: time to the first token and tokens per second.

    python -m tests.bench.chat_speed [--rounds 5] [--tokens 120] [--dtype bfloat16] [--threads N]

The chat process runs by itself, as the worker starts it. Both sides alternate round by round, never at the same time;
the reader polls the rows every 10 ms; plain `generate` has the library's number of threads. A first round on each side is not counted.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, ClassVar

ROOT = Path(__file__).resolve().parents[2]
QUESTION = "Tell me a long story about a cat that learns to sail."
READ_EVERY_S = 0.01


def plain(model: Any, prompt: list[int], tokens: int, stop_ids: list[int]) -> tuple[float, float]:
    """Seconds to the first token, and tokens per second, with nothing around the library's own loop."""
    import torch
    from transformers.generation.streamers import BaseStreamer

    class First(BaseStreamer):
        at: ClassVar[list[float]] = []

        def put(self, value: Any) -> None:
            self.at.append(time.monotonic())

        def end(self) -> None:
            """Nothing to do."""

    First.at = []
    ids = torch.tensor([prompt])
    began = time.monotonic()
    with torch.inference_mode():
        out = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=tokens,
            do_sample=False,
            eos_token_id=stop_ids,
            pad_token_id=stop_ids[0],
            streamer=First(),
        )
    ended = time.monotonic()
    count = out.shape[1] - len(prompt)
    return First.at[1] - began, count / (ended - began)


def through_the_store(store: Any, target: Any, tokens: int) -> tuple[float, float]:
    """The same as a reader of the rows sees it, from the moment the question is put."""
    from storage import messages

    params = {"system": "", "temperature": 0.0, "max_tokens": tokens, "seed": 1}
    began = time.monotonic()
    with store.write() as session:
        _, (number,) = messages.ask(session, conversation_id=None, text=QUESTION, targets=[target], params=params)
    first = None
    row = "select content <> '', finished_at, state, num_tokens from message where id = ?"
    with contextlib.closing(sqlite3.connect(store.url.database)) as reader:  # a light one: it shares the two cores
        while True:
            begun, finished_at, state, num_tokens = reader.execute(row, (number,)).fetchone()
            if first is None and begun:
                first = time.monotonic() - began
            if finished_at is not None:
                assert state == "done", state
                return first or 0.0, num_tokens / (time.monotonic() - began)
            time.sleep(READ_EVERY_S)


def measure(arguments: argparse.Namespace, home: Path) -> dict[str, Any]:
    """Alternate the two sides; the chat process is stopped while the plain one computes."""
    import signal

    import torch

    from engine.models.serving import Served
    from engine.models.starter import default_folder
    from engine.runtime import process
    from engine.runtime.device import arithmetic
    from engine.specs.home import Home
    from storage import models
    from storage.database import open_store
    from storage.models import NewModel
    from storage.targets import resolve

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    store = open_store(Home(home, f"sqlite:///{home / 'store.db'}").ensure().store_url)
    folder = default_folder()
    facts = {"dtype": arguments.dtype}
    with store.write() as session:
        models.add(session, NewModel(name="starter", path=str(folder), source="starter", bytes=1, facts=facts))
        target = resolve(session, "base:starter")
    served = Served(
        folder, quantization="none", dtype=arithmetic(folder, quantization="none", dtype=arguments.dtype, device="cpu")
    )
    prompt = served.renderer.prompt([{"role": "user", "content": QUESTION}])
    os.environ["ATELIER_HOME"] = str(home)
    environment = {**process.environment("engine.runtime.chat"), "ATELIER_LIFELINE": ""}
    if arguments.threads:
        environment["ATELIER_TORCH_THREADS"] = str(arguments.threads)
    child = subprocess.Popen(
        [sys.executable, "-m", "engine.runtime.chat", "0", target.base_key], env=environment, stderr=subprocess.DEVNULL
    )
    sides: dict[str, list[tuple[float, float]]] = {"plain": [], "store": []}
    try:
        for number in range(arguments.rounds + 1):
            child.send_signal(signal.SIGCONT)
            chat = through_the_store(store, target, arguments.tokens)
            child.send_signal(signal.SIGSTOP)
            alone = plain(served._model, prompt, arguments.tokens, served.stop_ids)
            if number:
                sides["store"].append(chat)
                sides["plain"].append(alone)
    finally:
        child.kill()
        child.wait()
        store.dispose()
    return summary(sides)


def summary(sides: dict[str, list[tuple[float, float]]]) -> dict[str, Any]:
    """Medians, and the two figures that are promised."""
    first = {name: [one[0] for one in some] for name, some in sides.items()}
    speed = {name: [one[1] for one in some] for name, some in sides.items()}
    added = [chat - alone for chat, alone in zip(first["store"], first["plain"], strict=True)]
    ratios = [chat / alone for chat, alone in zip(speed["store"], speed["plain"], strict=True)]
    return {
        "added_to_first_token_ms": {"median": 1000 * statistics.median(added), "worst": 1000 * max(added)},
        "speed_ratio": {"median": statistics.median(ratios), "worst": min(ratios)},
        "first_token_ms": {name: 1000 * statistics.median(some) for name, some in first.items()},
        "tokens_per_second": {name: statistics.median(some) for name, some in speed.items()},
        "rounds": len(added),
        "load": os.getloadavg()[0],
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=120)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--threads", type=int, default=0)
    with tempfile.TemporaryDirectory() as folder:
        sys.stdout.write(json.dumps(measure(parser.parse_args(), Path(folder)), indent=1) + "\n")


if __name__ == "__main__":
    main()
