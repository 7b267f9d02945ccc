"""`atelier merge`: a merge from the command line is a job whose result is a target."""

from __future__ import annotations

import json
from typing import Any

import pytest

from app.commands import waiting
from storage import checkpoints, jobs
from storage.checkpoints import NewCheckpoint
from storage.database import Store
from storage.jobs import Holder, Settlement
from storage.states import State
from tests.app.test_chain_commands import Run, atelier, home, store, train  # noqa: F401  fixtures of the same studio

SPEC = {
    "name": "run",
    "model": {"id": "starter"},
    "data": {"dataset": "tickets", "version": 1},
    "tuner": {"kind": "lora"},
}


@pytest.fixture
def runs(store: Store) -> list[int]:  # noqa: F811
    found = []
    for name in ("a", "b"):
        with store.write() as session:
            job = jobs.submit(session, kind="train", name=name, spec=SPEC, lane="gpu")
        found.append(train(store, job.id).id)
    return found


def test_merge_prints_the_id_alone_and_names_its_sources_exactly(atelier: Run, runs: list[int]) -> None:  # noqa: F811
    code, out, _ = atelier("merge", *runs, "--method", "ties", "--weights", "0.7,0.3", "--density", "0.4")
    spec = json.loads(atelier("job", out.strip(), "--json")[1])["spec"]
    assert code == 0
    assert [(one["target"], one["weight"]) for one in spec["sources"]] == [("1@5", 0.7), ("2@5", 0.3)]
    assert spec["method"] == {"kind": "ties", "density": 0.4, "scale": 1.0}
    assert (spec["form"], spec["model"]["id"], spec["sources"][0]["data"]["dataset"]) == (
        "weights",
        "starter",
        "tickets",
    )


def test_a_mean_of_adapters_on_one_base_becomes_an_adapter(atelier: Run, runs: list[int]) -> None:  # noqa: F811
    _, out, _ = atelier("merge", *runs, "--set", "method.scale=2", "--name", "both")
    said = json.loads(atelier("job", out.strip(), "--json")[1])
    assert (said["name"], said["spec"]["form"], said["spec"]["method"]["scale"]) == ("both", "adapter", 2)


def test_a_waited_merge_ends_as_its_job(
    atelier: Run,  # noqa: F811
    runs: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def until_over(shell: Any, job_id: int) -> jobs.Job:
        with shell.store.write() as session:
            taken = jobs.claim(session, Holder("w", "h", "b"), lanes=["gpu"], lease_s=60)
            assert taken is not None and taken[0].job_id == job_id
            return jobs.settle(session, taken[0], Settlement(State.FAILED, reason="disk_full", exit_code=73))

    monkeypatch.setattr(waiting, "until_over", until_over)
    code, out, _ = atelier("merge", *runs, "--wait", "--json")
    assert (code, json.loads(out)["state"]) == (73, "failed")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("1", "2", "--weights", "1"), "usage_weights"),
        (("1", "2", "--weights", "a,b"), "usage_weights"),
        (("1", "9"), "merge_source_missing"),
        (("1", "2", "--method", "mean"), "spec_not_a_choice"),
        (("1",), "merge_too_few"),
        (("1", "2", "--density", "0.5"), "spec_unknown_field"),
        (("1", "base:starter", "--as", "adapter"), "merge_other_base"),
    ],
)
def test_a_wrong_merge_is_refused(
    atelier: Run,  # noqa: F811
    runs: list[int],
    arguments: tuple[str, ...],
    code: str,
) -> None:
    ended, out, _ = atelier("merge", *arguments, "--json")
    assert (ended, [one["code"] for one in json.loads(out)["problems"]]) == (64, [code])


def test_an_average_of_a_run_takes_its_checkpoints_but_no_base_of_its_own(atelier: Run, store: Store) -> None:  # noqa: F811
    with store.write() as session:
        job = jobs.submit(session, kind="train", name="a", spec=SPEC, lane="gpu")
        claimed = jobs.claim(session, Holder("w", "h", "b"), lanes=["gpu"], lease_s=600)
        assert claimed is not None
        for step in (0, 2, 4, 6):
            new = NewCheckpoint(
                step=step, path=f"/runs/{job.id}/{step}", manifest_sha="0", bytes=10, base_path="/models/starter",
                quantization="none", dtype="float32", is_adapter=step > 2,
            )  # fmt: skip
            checkpoints.add(session, claimed[0], new)
        jobs.settle(session, claimed[0], Settlement(State.SUCCEEDED, reason="done"))
    _, out, _ = atelier("merge", job.id, "--method", "ema")
    spec = json.loads(atelier("job", out.strip(), "--json")[1])["spec"]
    assert [one["target"] for one in spec["sources"]] == ["1@4", "1@6"], "of one kind: full weights are no adapters"
