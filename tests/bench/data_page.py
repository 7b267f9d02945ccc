"""How soon the figures of a large dataset are on the screen: `python -m tests.bench.data_page [--rows 1000000]`.

A version of so many rows in a studio of its own, its worker running and a tokenizer chosen: the time from the click on
Figures, and from the opening of the page, to the first histogram; then to the lengths in tokens.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from playwright.sync_api import Page

from engine.data.rows import BATCH_ROWS, RowWriter, batch_of
from engine.data.statistics import Statistics
from engine.specs.home import Home
from storage import datasets
from storage.database import open_store
from storage.datasets import NewVersion
from tests.bench.browser import page_on
from tests.bench.importing import WORDS
from tests.bench.studio import studio

PICTURE, IN_TOKENS = "#data-body .at-histogram svg", "#data-counted .at-histogram svg"


def rows(count: int) -> Iterator[dict[str, Any]]:
    """Conversations of one turn, all different."""
    draw = random.Random(7)
    for number in range(count):
        asked, answered = (" ".join(draw.choices(WORDS, k=draw.randrange(10, 60))) for _ in range(2))
        turns = [{"role": "user", "content": f"{number}: {asked}"}, {"role": "assistant", "content": answered}]
        yield {"messages": turns}


def put(home: Home, count: int) -> None:
    """Store a version with its statistics, and list it."""
    folder = home.datasets / ("0" * 64)
    folder.mkdir()
    path, counts, made = folder / "rows.parquet", Statistics(), rows(count)
    with RowWriter(path, "conversation") as writer:
        while some := list(islice(made, BATCH_ROWS)):
            batch = batch_of(some, "conversation")
            writer.write(batch)
            counts.add(batch)
    facts = {"row_kind": "conversation", "format": "messages", "rows": count, "usable_rows": count}
    new = NewVersion(
        name="large", sha256=folder.name, path=str(path), bytes=path.stat().st_size, source_name="large.jsonl",
        statistics=counts.as_dict(), **facts,
    )  # fmt: skip
    store = open_store(home.store_url)
    with store.write() as session:
        datasets.add_version(session, new)
    store.dispose()


def shown(page: Page, what: str) -> None:
    """Wait until something is on the screen."""
    page.locator(what).first.wait_for(timeout=300_000)


def main() -> None:
    """Measure and print medians."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.data_page")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    clicks, openings = [], []
    with studio(ui=True) as one:
        began = time.monotonic()
        put(Home(one.home, f"sqlite:///{one.home / 'store.db'}"), given.rows)
        stored = sum(path.stat().st_size for path in Path(one.home).glob("datasets/*/*")) / 1e6
        print(f"{given.rows:,} rows, {stored:.0f} MB stored, made in {time.monotonic() - began:.0f} s")
        with page_on(f"{one.address}/data?dataset=large") as page:
            shown(page, "#data-body .at-transcript")
            began = time.monotonic()
            page.get_by_role("link", name="Figures").click()
            shown(page, IN_TOKENS)
            print(f"lengths in tokens, the first time: {time.monotonic() - began:.1f} s after the click")
            for _ in range(given.rounds):
                page.goto(f"{one.address}/data?dataset=large")
                shown(page, "#data-body .at-transcript")
                began = time.monotonic()
                page.get_by_role("link", name="Figures").click()
                shown(page, PICTURE)
                clicks.append(time.monotonic() - began)
                began = time.monotonic()
                page.goto(f"{one.address}/data?dataset=large&view=figures")
                shown(page, PICTURE)
                openings.append(time.monotonic() - began)
    for what, took in (("click", clicks), ("opening of the page", openings)):
        print(f"{what} to the first picture: {statistics.median(took):.2f} s (worst {max(took):.2f} s)")


if __name__ == "__main__":
    main()
