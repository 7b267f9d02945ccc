"""Chat in a real browser against plain `generate` in one process: from the Enter key to the text on the screen.

    python -m tests.bench.chat_browser [--rounds 5] [--tokens 100]

The whole studio runs (worker, pages, chat process). The sides alternate, a new conversation each time; the studio's
processes idle while the plain side computes. A first round on each side is not counted.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from storage import messages
from storage.database import Store
from tests.bench.browser import page_on
from tests.bench.chat_speed import QUESTION, plain, summary
from tests.bench.studio import Studio, studio

WATCH = """() => {
  window.__asked = window.__first = window.__ended = 0;
  addEventListener('keydown', event => { if (event.key === 'Enter') window.__asked = performance.now(); }, true);
  new MutationObserver(() => {
    const box = document.querySelector('#at-chat .at-theirs');
    if (!box) return;
    if (!window.__first && box.querySelector('.at-said').textContent) window.__first = performance.now();
    if (!window.__ended && box.dataset.state === 'done') window.__ended = performance.now();
  }).observe(document.body, { subtree: true, childList: true, characterData: true, attributes: true });
}"""


def wait_for(page: Any, what: str, *, seconds: float) -> None:
    """Ask the page again and again: what the driver would put into it for that is refused by its policy."""
    deadline = time.monotonic() + seconds
    while not page.evaluate(what):
        if time.monotonic() > deadline:
            raise TimeoutError(what)
        time.sleep(0.25)


def in_the_browser(page: Any, one: Studio, store: Store, tokens: int) -> tuple[float, float]:
    """Ask in a new conversation; seconds to the first text and tokens per second, by the page's own clock."""
    page.goto(f"{one.address}/chat?target=base:starter")
    wait_for(page, "document.querySelector('#at-first input')?.value", seconds=60)
    page.wait_for_timeout(2_000)  # the page's own start is over
    page.evaluate(WATCH)
    page.locator("#at-question textarea").fill(QUESTION)
    page.locator("#at-question textarea").press("Enter")
    wait_for(page, "window.__ended", seconds=300)
    first, whole = page.evaluate("[window.__first - window.__asked, window.__ended - window.__asked]")
    with store.read() as session:
        newest = messages.conversations(session, limit=1)[0].id
        told = messages.transcript(session, newest)[-1].num_tokens
    assert told == tokens, told
    return first / 1000, tokens / (whole / 1000)


def measure(one: Studio, rounds: int, tokens: int) -> dict[str, Any]:
    """Alternate the two sides."""
    from app import talk
    from engine.models.serving import Served
    from engine.runtime.device import arithmetic
    from storage import drafts, models
    from storage.database import open_store

    store = open_store(f"sqlite:///{one.home / 'store.db'}")
    with store.write() as session:
        base = models.get(session, "starter")
        drafts.put(session, talk.PAGE, {**talk.DEFAULTS, "temperature": 0.0, "max_tokens": tokens})
    dtype = arithmetic(Path(base.path), quantization="none", dtype="bfloat16", device="cpu")
    served = Served(Path(base.path), quantization="none", dtype=dtype)
    prompt = served.renderer.prompt([{"role": "user", "content": QUESTION}])
    sides: dict[str, list[tuple[float, float]]] = {"plain": [], "store": []}
    with page_on(one.address) as page:
        for number in range(rounds + 1):
            chat = in_the_browser(page, one, store, tokens)
            alone = plain(served._model, prompt, tokens, served.stop_ids)
            if number:
                sides["store"].append(chat)
                sides["plain"].append(alone)
    store.dispose()
    return summary(sides)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=100)
    arguments = parser.parse_args()
    with studio(ui=True) as one:
        sys.stdout.write(json.dumps(measure(one, arguments.rounds, arguments.tokens), indent=1) + "\n")


if __name__ == "__main__":
    main()
