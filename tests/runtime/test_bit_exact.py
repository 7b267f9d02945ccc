"""A run that is killed, also in the middle of a save, ends with the bytes and the curves of one that was not."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from safetensors.torch import load

from tests.runtime.training_room import SAMPLES, add_rows, make_room

SEED = int(os.environ.get("ATELIER_SEED") or random.SystemRandom().randrange(10**6))
"""`ATELIER_SEED=… pytest` repeats a run of these tests."""
STEPS = 12
IN_A_SAVE = ("checkpoint_begun", "checkpoint_written", "checkpoint_before_rename", "checkpoint_after_rename")
TUNERS = {
    "full": {"tuner": {"kind": "full"}},
    "lora": {"tuner": {"kind": "lora", "rank": 4, "dropout": 0.1}},
    "qlora": {"tuner": {"kind": "lora", "rank": 4, "dropout": 0.1}, "model": {"quantization": "nf4"}},
}
OBJECTIVES = {
    "sft": {"objective": {"kind": "sft"}, "data": {"dataset": "few-tickets", "max_length": 128}},
    "packed": {"objective": {"kind": "sft"}, "data": {"dataset": "more-tickets", "max_length": 192, "packing": True}},
    "dpo": {"objective": {"kind": "dpo"}, "data": {"dataset": "few-preferences", "max_length": 96}},
}
TRAINING = {
    "max_steps": STEPS,
    "batch_size": 2,
    "gradient_accumulation": 2,
    "eval_every_steps": 4,
    "save_every_steps": 3,
    "log_every_steps": 2,
    "early_stopping_patience": 50,
    "warmup_ratio": 0.1,
}
"""About six steps go through the data once, the last of them with fewer rows; saves, points and evaluations fall apart."""
PATIENCE_S = 400


@pytest.fixture(scope="module")
def room(tiny_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch, make_room(tiny_model, folder, patch) as made:
        for name, sample, count in (
            ("few-tickets", "tickets", 23),
            ("more-tickets", "tickets", 46),
            ("few-preferences", "preferences", 23),
        ):
            lines = [line for line in (SAMPLES / f"{sample}.jsonl").read_text().splitlines() if '"test"' not in line]
            path = folder / f"{name}.jsonl"
            path.write_text("\n".join(lines[:count]) + "\n")
            add_rows(made, name, path)
        yield made


def cases():
    for tuner in TUNERS:
        for objective in OBJECTIVES:
            yield pytest.param(tuner, objective, id=f"{tuner}-{objective}")


def crash(patch, where: str, once: Path) -> None:
    patch.setenv("ATELIER_CRASH_AT", where)
    patch.setenv("ATELIER_CRASH_ONCE", str(once))


def kill_at(room, patch, job_id: int, points: list[str], folder: Path) -> None:
    """Let one attempt after the other die at these points."""
    for number, point in enumerate(points, start=1):
        crash(patch, point, folder / f"crash-{job_id}-{number}")
        ended = lambda number=number: sum(one.outcome is not None for one in room.attempts(job_id)) >= number  # noqa: E731
        room.work(ended, PATIENCE_S)
    patch.delenv("ATELIER_CRASH_AT")


@pytest.mark.slow
@pytest.mark.timeout(4 * PATIENCE_S)
@pytest.mark.parametrize(("tuner", "objective"), cases())
def test_two_kills_change_neither_a_byte_nor_a_point(room, monkeypatch, tmp_path, tuner, objective):
    draw = random.Random(f"{SEED} {tuner} {objective}")
    points = [f"step_{draw.randrange(4, STEPS)}", draw.choice(IN_A_SAVE)]
    print(f"ATELIER_SEED={SEED}: killed at {points}")  # noqa: T201 - shown when it fails
    changes = {**TUNERS[tuner], **OBJECTIVES[objective], "training": TRAINING}
    whole = room.train(PATIENCE_S, **changes)
    assert whole.state == "succeeded", room.log(whole.id)
    job_id = room.submit(**changes)
    kill_at(room, monkeypatch, job_id, points, tmp_path)
    done = room.finish(job_id, PATIENCE_S)
    assert done.state == "succeeded", room.log(job_id)
    assert [one.outcome for one in room.attempts(job_id)] == ["killed", "killed", "succeeded"]
    assert room.attempts(job_id)[-1].resumed_from_step, "it went on from a checkpoint"
    assert room.curves(job_id) == room.curves(whole.id)
    assert room.weights(job_id) == room.weights(whole.id)
    for weights in room.weights(job_id).values():
        assert {str(one.dtype) for one in load(weights).values()} == {"torch.float32"}
    assert {name: done.result[name] for name in ("steps", "loss", "best_step", "eval_loss", "answers")} == {
        name: whole.result[name] for name in ("steps", "loss", "best_step", "eval_loss", "answers")
    }


@pytest.mark.slow
@pytest.mark.timeout(4 * PATIENCE_S)
def test_early_stopping_counts_on_after_a_kill_and_stops_where_it_would_have(room, monkeypatch, tmp_path):
    still = {**TRAINING, "learning_rate": 1e-30, "max_steps": 40, "eval_every_steps": 2, "early_stopping_patience": 4}
    changes = {**TUNERS["lora"], **OBJECTIVES["sft"], "training": still}
    whole = room.train(PATIENCE_S, **changes)
    assert (whole.state, whole.reason) == ("succeeded", "stopped_early"), room.log(whole.id)
    stopped = whole.result["steps"]
    job_id = room.submit(**changes)
    kill_at(room, monkeypatch, job_id, [f"step_{stopped - 1}", "result_written"], tmp_path)
    done = room.finish(job_id, PATIENCE_S)
    assert (done.reason, done.result["steps"]) == ("stopped_early", stopped), room.log(job_id)
    assert room.attempts(job_id)[-1].resumed_from_step == stopped, "after its end nothing is trained any more"
    assert room.curves(job_id) == room.curves(whole.id)
    assert room.weights(job_id) == room.weights(whole.id)
