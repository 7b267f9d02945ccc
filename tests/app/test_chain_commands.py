"""`atelier chain`: one YAML makes a chain, and the chain gives it back."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from app import cli
from app.commands import waiting
from engine.specs.home import Home
from storage import checkpoints, datasets, jobs, models
from storage.checkpoints import NewCheckpoint
from storage.database import Store, open_store
from storage.datasets import NewVersion
from storage.jobs import Holder, Job, Settlement
from storage.models import NewModel
from storage.states import State

CHAIN = """
name: domain
model: {id: starter}
data: {max_length: 128}
tuner: {kind: lora, rank: 8}
training: {epochs: 1}
stages:
  - {name: style, data: {dataset: tickets}}
  - {name: taste, data: {dataset: likes}, objective: {kind: dpo, beta: 0.2}, training: {epochs: 2}}
"""
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("ATELIER_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("ATELIER_STORE", raising=False)
    return Home.from_environment().ensure()


@pytest.fixture
def store(home: Home) -> Any:
    opened = open_store(home.store_url)
    with opened.write() as session:
        models.add(session, NewModel("starter", "/models/starter", "starter", 270, parameters=135_000_000))
        for name, kind in (("tickets", "conversation"), ("likes", "preference")):
            new = NewVersion(
                name=name, sha256=name, path=f"/datasets/{name}", row_kind=kind, format="messages", rows=300,
                usable_rows=298, bytes=900, source_name="t.jsonl"
            )  # fmt: skip
            datasets.add_version(session, new)
    yield opened
    opened.dispose()


@pytest.fixture
def atelier(store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["atelier", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        said = capsys.readouterr()
        return int(end.value.code or 0), said.out, said.err

    return run


@pytest.fixture
def chain(tmp_path: Path) -> Path:
    path = tmp_path / "chain.yaml"
    path.write_text(CHAIN)
    return path


def train(store: Store, job_id: int, state: State = State.SUCCEEDED) -> Job:
    """Train as a worker would, in no time."""
    with store.write() as session:
        claimed = jobs.claim(session, Holder("w", "h", "b"), lanes=["gpu"], lease_s=600)
        assert claimed is not None and claimed[0].job_id == job_id
        new = NewCheckpoint(
            step=5, path=f"/runs/{job_id}/5", manifest_sha="0", bytes=10, base_path="/models/starter",
            quantization="none", dtype="float32", is_adapter=True,
        )  # fmt: skip
        checkpoints.add(session, claimed[0], new)
        return jobs.settle(session, claimed[0], Settlement(state, reason="done", exit_code=70))


@pytest.fixture
def at_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> dict[int, State]:
    """A worker that ends each run the moment it is waited for; put in how a run ends otherwise."""
    ends: dict[int, State] = {}
    until = lambda shell, job_id: train(shell.store, job_id, ends.get(job_id, State.SUCCEEDED))  # noqa: E731
    monkeypatch.setattr(waiting, "until_over", until)
    return ends


def test_a_chain_is_one_file_and_its_first_stage_is_in_the_queue(atelier: Run, chain: Path) -> None:
    code, out, _ = atelier("chain", "run", chain, "--json")
    said = json.loads(out)
    assert (code, said["name"], said["state"]) == (0, "domain", "running")
    first, second = said["stages"]
    assert [(one["name"], one["state"], one["place"]) for one in said["stages"]] == [
        ("style", "queued", 1),
        ("taste", "waiting", 2),
    ]
    assert (first["spec"]["training"]["epochs"], second["spec"]["training"]["epochs"]) == (1, 2)
    assert (second["spec"]["objective"]["beta"], second["spec"]["tuner"]["rank"]) == (0.2, 8)
    assert second["spec"]["training"]["learning_rate"] < first["spec"]["training"]["learning_rate"]
    assert json.loads(atelier("job", first["job_id"], "--json")[1])["name"] == "domain · style"


def test_the_chain_gives_back_a_yaml_that_makes_an_equal_one(atelier: Run, chain: Path, tmp_path: Path) -> None:
    made = json.loads(atelier("chain", "run", chain, "--json")[1])
    code, text, _ = atelier("chain", "show", "domain", "--yaml")
    told = yaml.safe_load(text)
    assert (code, told["tuner"]["rank"], "tuner" in told["stages"][0]) == (0, 8, False)
    assert "start_from" not in text
    again = tmp_path / "again.yaml"
    again.write_text(text)
    other = json.loads(atelier("chain", "run", again, "--json")[1])
    assert [one["spec"] for one in other["stages"]] == [one["spec"] for one in made["stages"]]
    assert atelier("chain", "show", other["id"], "--yaml")[1] == text


def test_waiting_goes_through_all_stages(atelier: Run, chain: Path, at_once: dict[int, State]) -> None:
    code, out, told = atelier("chain", "run", chain, "--wait", "--json")
    said = json.loads(out)
    assert (code, said["state"]) == (0, "done")
    assert [one["start_from"] for one in said["stages"]] == [None, f"{said['stages'][0]['job_id']}@5"]
    assert "style" in told and "taste" in told
    lines = atelier("chain", "show", "domain")[1]
    assert "taste" in lines and "done" in lines


def test_a_stage_that_fails_ends_the_wait_with_its_code(atelier: Run, chain: Path, at_once: dict[int, State]) -> None:
    at_once[1] = State.FAILED
    code, out, _ = atelier("chain", "run", chain, "--wait", "--json")
    said = json.loads(out)
    assert (code, said["state"], said["stages"][1]["state"]) == (70, "blocked", "waiting")
    (listed,) = json.loads(atelier("chain", "list", "--json")[1])["items"]
    assert (listed["state"], listed["name"]) == ("blocked", "domain")
    assert "0/2" in atelier("chain", "list")[1]


def test_a_stage_is_repeated_with_other_settings(atelier: Run, chain: Path, at_once: dict[int, State]) -> None:
    atelier("chain", "run", chain, "--wait")
    code, out, _ = atelier("chain", "repeat", "domain", "style", "--set", "training.epochs=7", "--wait", "--json")
    said = json.loads(out)
    assert (code, said["stages"][0]["runs"], said["stages"][1]["runs"]) == (0, [1, 3], [2])
    assert [one["outdated"] for one in said["stages"]] == [False, True]
    assert said["stages"][0]["spec"]["training"]["epochs"] == 7
    again = json.loads(atelier("chain", "repeat", "domain", 2, "--following", "--wait", "--json")[1])
    assert [one["outdated"] for one in again["stages"]] == [False, False]
    assert again["stages"][1]["start_from"] == "3@5"


def test_another_dataset_is_taken_in_its_newest_version(atelier: Run, chain: Path, at_once: dict[int, State]) -> None:
    atelier("chain", "run", chain, "--wait")
    code, out, _ = atelier("chain", "repeat", "domain", "style", "--set", "data.dataset=tickets", "--json")
    assert (code, json.loads(out)["stages"][0]["spec"]["data"]["sha256"]) == (0, "tickets")
    assert atelier("chain", "repeat", "domain", "taste", "--set", "data.dataset=tickets")[0] == 65


def test_a_chain_is_stopped_resumed_and_deleted(atelier: Run, chain: Path, store: Store) -> None:
    atelier("chain", "run", chain)
    assert json.loads(atelier("chain", "stop", "domain", "--json")[1])["state"] == "paused"
    assert json.loads(atelier("chain", "resume", 1, "--json")[1])["state"] == "running"
    assert atelier("chain", "delete", "domain", "--json")[0] == 0
    assert json.loads(atelier("chain", "list", "--json")[1]) == {"items": []}
    assert atelier("chain", "show", "domain")[0] == 64
    assert "no chain" in atelier("chain", "list")[1]
    with store.read() as session:
        assert len(jobs.listing(session)) == 1


def test_a_held_chain_begins_nothing(atelier: Run, chain: Path, store: Store) -> None:
    assert json.loads(atelier("chain", "run", chain, "--hold", "--json")[1])["state"] == "draft"
    with store.read() as session:
        assert jobs.listing(session) == []


@pytest.mark.parametrize(
    ("wrong", "field", "code"),
    [
        ("stages: []", "stages", 64),
        ("stages: [{name: a, data: {dataset: nothing}}]", "stages.a.data.dataset", 65),
        ("stages: [{name: a, data: {dataset: tickets}}, {name: a}]", "stages.1.name", 64),
        ("stages: [{name: a, data: {dataset: tickets, x: 1}}]", "stages.a.data.x", 64),
        (
            "stages: [{name: a, data: {dataset: tickets}}, {name: b, data: {dataset: tickets}, model: {id: other}}]",
            "stages.b.model.id",
            64,
        ),
        ("x: 1\nstages: [{name: a, data: {dataset: tickets}}]", "x", 64),
    ],
)
def test_a_wrong_chain_is_refused_before_anything_is_queued(
    atelier: Run, store: Store, tmp_path: Path, wrong: str, field: str, code: int
) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(wrong)
    ended, out, _ = atelier("chain", "run", path, "--json")
    assert (ended, {one["field"] for one in json.loads(out)["problems"]}) == (code, {field})
    with store.read() as session:
        assert jobs.listing(session) == []


def test_an_unknown_stage_is_refused_with_those_that_there_are(atelier: Run, chain: Path) -> None:
    atelier("chain", "run", chain)
    code, _, told = atelier("chain", "repeat", "domain", "nothing")
    assert code == 64 and "style, taste" in told
