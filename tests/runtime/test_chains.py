"""A chain trained for real: the worker begins each stage on the weights that the one before it left."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from engine.specs.job import parse
from storage import chains, stages
from storage.chains import NewStage
from storage.jobs import Job
from tests.runtime.training_room import Room, make_room


@pytest.fixture
def room(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Room]:
    with make_room(tiny_model, tmp_path / "home", monkeypatch) as made:
        yield made


def stage(name: str, steps: int, **model: str) -> NewStage:
    spec = parse(
        {
            "model": {"id": "tiny", "dtype": "float32", **model},
            "data": {"dataset": "tickets", "max_length": 64, "eval_fraction": 0},
            "objective": {"kind": "sft"},
            "tuner": {"kind": "lora", "rank": 4},
            "training": {"learning_rate": 1e-6, "max_steps": steps, "batch_size": 1, "precision": "fp32"},
        }
    )
    return NewStage(name, spec.model_dump(mode="json"))


def adapter(room: Room, job_id: int) -> dict[str, torch.Tensor]:
    return load_file(Path(room.checkpoints(job_id)[-1].path) / "adapter_model.safetensors")


def trained(room: Room, name: str, *parts: NewStage) -> list[Job]:
    """The runs of a chain that has gone through."""
    with room.store.write() as session:
        made = chains.create(session, name, list(parts), going=True)

    def standings() -> list[stages.Standing]:
        with room.store.read() as session:
            return stages.standings(session, made.id)

    room.work(lambda: all(one.state == "succeeded" for one in standings()))
    return [one.job for one in standings() if one.job is not None]


def test_the_worker_trains_stage_after_stage_on_what_the_last_one_left(room: Room) -> None:
    first, second = trained(room, "two", stage("first", 2), stage("second", 3))
    assert second.spec["model"]["start_from"] == f"{first.id}@2"
    before, after = adapter(room, first.id), adapter(room, second.id)
    drawn = {name: value for name, value in before.items() if "lora_A" in name}
    assert drawn and all(torch.allclose(value, after[name], atol=1e-5) for name, value in drawn.items())
    assert any(not torch.equal(value, after[name]) for name, value in before.items())


@pytest.mark.slow
def test_new_tokens_of_all_stages_are_brought_in_by_the_first_and_gone_on_with(room: Room) -> None:
    first, second = trained(room, "winds", *(stage(name, 1, add_tokens="<north>") for name in ("first", "second")))
    assert [one.step for one in room.checkpoints(first.id)] == [0, 1]
    assert [one.step for one in room.checkpoints(second.id)] == [1], "no second base"
    assert {one.base_path for one in room.checkpoints(second.id)} == {room.checkpoints(first.id)[0].path}
