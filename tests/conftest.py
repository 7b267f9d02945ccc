"""Fixtures that all tests share: a PostgreSQL, the starter model, a tiny one, and a switch against silent skips."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes import tiny_model as tiny_model_files
from tests.postgres import Cluster, cluster

REQUIRE_ALL = os.environ.get("ATELIER_REQUIRE_ALL") == "1"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Where everything must be there, a skip because something is missing is a failure."""
    report = yield
    if REQUIRE_ALL and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, though everything must be there: {report.longrepr}"
    return report


@pytest.fixture(autouse=True)
def _limits_come_back() -> Iterator[None]:
    """What a child process may take at most is no limit of the tests after it, where its work was done in here."""
    usual = {kind: resource.getrlimit(kind) for kind in (resource.RLIMIT_AS, resource.RLIMIT_CPU)}
    yield
    for kind, limits in usual.items():
        resource.setrlimit(kind, limits)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Cluster]:
    """A PostgreSQL server of our own; `with postgres.database() as url` gives a migrated database."""
    with cluster() as running:
        yield running


@pytest.fixture
def postgres_url(postgres: Cluster) -> Iterator[str]:
    """The URL of a migrated PostgreSQL database of the test's own."""
    with postgres.database() as url:
        yield url


@pytest.fixture(scope="session")
def starter() -> Path:
    """The starter model's folder, as `make setup` leaves it."""
    folder = Path(sys.prefix) / "share" / "atelier" / "starter"
    if not folder.is_dir():
        pytest.skip("the starter model is missing: run `make setup`")
    return folder


@pytest.fixture(scope="session")
def tiny_model(starter: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of two small layers with random weights and the starter's tokenizer, in Hugging Face layout."""
    return tiny_model_files.write(starter, tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def mini_model(tiny_model, tmp_path_factory):
    """The tiny model with 96 tokens: most of the tiny one is its vocabulary, which many tests do not need."""
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, set_seed

    folder = tmp_path_factory.mktemp("mini")
    set_seed(0)
    LlamaForCausalLM(LlamaConfig.from_pretrained(tiny_model, vocab_size=96)).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(folder)
    return folder
