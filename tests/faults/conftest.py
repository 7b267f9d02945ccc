"""The fixtures of the fault table: a house on each store, and a seed that is named where a case fails."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.faults.house import House

HERE = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker("faults")


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """Random, unless ATELIER_FAULT_SEED names it; printed where the case fails."""
    chosen = int(os.environ.get("ATELIER_FAULT_SEED") or secrets.randbelow(2**32))
    request.node.add_report_section("setup", "seed", f"ATELIER_FAULT_SEED={chosen}")
    return chosen


@pytest.fixture
def bare_house(tmp_path: Path, seed: int) -> Iterator[House]:
    """A house that the case breaks on purpose: what is still to hold, it checks itself."""
    made = House(tmp_path / "house", seed=seed)
    yield made
    made.close()


@pytest.fixture
def house(tmp_path: Path, seed: int) -> Iterator[House]:
    """A house on SQLite; after the case it comes to rest and I1 to I9 hold."""
    made = House(tmp_path / "house", seed=seed)
    try:
        yield made
        made.check()
    finally:
        made.close()


def postgres_of(request: pytest.FixtureRequest) -> Any:
    """The tests' PostgreSQL server; skips where there is none."""
    try:
        return request.getfixturevalue("postgres")
    except pytest.FixtureLookupError:
        pytest.skip("no PostgreSQL for tests here")


@pytest.fixture(params=["sqlite", "postgresql"])
def each_house(request: pytest.FixtureRequest, tmp_path: Path, seed: int) -> Iterator[House]:
    """A house on either store, one after the other."""
    with ExitStack() as stack:
        url = stack.enter_context(postgres_of(request).database()) if request.param == "postgresql" else None
        made = House(tmp_path / "house", seed=seed, store_url=url)
        try:
            yield made
            made.check()
        finally:
            made.close()
