"""Full fine-tuning and then LoRA as one run; and runs that start on an adapter, trained further or merged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file

from engine.runtime import checkpoints
from storage import checkpoints as rows
from storage import retention, targets
from storage.errors import Conflict, NotFound
from tests.runtime.test_bit_exact import crash
from tests.runtime.training_room import SAMPLES, add_rows, make_room

STEPS, SWITCH = 8, 4
TRAINING = {
    "epochs": 20.0,
    "max_steps": STEPS,
    "batch_size": 2,
    "gradient_accumulation": 2,
    "eval_every_steps": 3,
    "save_every_steps": 3,
    "log_every_steps": 2,
    "keep_checkpoints": 1,
}
DATA = {"dataset": "few-tickets", "max_length": 64, "eval_fraction": 0.2}
PHASED = {"kind": "full_then_lora", "full_share": SWITCH / STEPS, "rank": 4, "dropout": 0.1, "warmup_ratio": 0.25}


@pytest.fixture(scope="module")
def room(tiny_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch, make_room(tiny_model, folder, patch) as made:
        lines = [line for line in (SAMPLES / "tickets.jsonl").read_text().splitlines() if '"test"' not in line]
        path = folder / "few-tickets.jsonl"
        path.write_text("\n".join(lines[:23]) + "\n")
        add_rows(made, "few-tickets", path)
        yield made


@pytest.fixture(scope="module")
def whole(room):
    done = room.train(tuner=PHASED, data=DATA, training=TRAINING)
    assert done.state == "succeeded", room.log(done.id)
    return done


def killed(room, patch, folder, *points, **changes):
    """A run whose attempts die at these points, one after the other; and its end."""
    job_id = room.submit(**changes)
    for number, point in enumerate(points, start=1):
        crash(patch, point, folder / f"crash-{number}")
        room.work(lambda number=number: sum(one.outcome is not None for one in room.attempts(job_id)) >= number)
    patch.delenv("ATELIER_CRASH_AT")
    done = room.finish(job_id)
    assert done.state == "succeeded", room.log(job_id)
    assert [one.outcome for one in room.attempts(job_id)] == ["killed"] * len(points) + ["succeeded"]
    return done


def test_the_second_phase_stands_on_the_checkpoint_of_the_first_which_stays(room, whole):
    found = {one.step: one for one in room.checkpoints(whole.id)}
    base, last = found[SWITCH], found[STEPS]
    assert (base.is_adapter, base.pinned, base.base_path) == (False, True, base.path)
    assert (last.is_adapter, last.base_path) == (True, base.path)
    checkpoints.verify(Path(base.path))
    with room.store.write() as session, pytest.raises(Conflict, match="checkpoint_in_use"):
        retention.unpin(session, whole.id, SWITCH)
    with room.store.write() as session, pytest.raises(NotFound):
        rows.remove(session, base.id)
    with room.store.read() as session:
        assert targets.resolve(session, str(whole.id)).base_path == base.path


def test_the_curve_goes_on_over_the_switch_and_the_rate_warms_up_anew(room, whole):
    assert [step for step, _ in room.curve(whole.id)] == [2, 4, 6, 8]
    rates = dict(room.curve(whole.id, "learning_rate"))
    assert rates[6] > 5 * rates[4], "the rate of adapters is ten times that of full fine-tuning"
    assert [step for step, _ in room.curve(whole.id, "eval_loss")] == [0, 3, 6, 8]


@pytest.mark.parametrize(
    "points",
    [
        pytest.param(("step_2", f"step_{SWITCH + 1}", f"step_{SWITCH + 3}"), id="before, at and after the switch"),
        pytest.param((f"step_{SWITCH}",), id="before the save of the switch", marks=pytest.mark.slow),
        pytest.param(("checkpoint_after_rename", "checkpoint_listed"), id="in saves", marks=pytest.mark.slow),
    ],
)
def test_kills_change_neither_a_byte_nor_a_point(room, whole, monkeypatch, tmp_path, points):
    done = killed(room, monkeypatch, tmp_path, *points, tuner=PHASED, data=DATA, training=TRAINING)
    assert room.curves(done.id) == room.curves(whole.id)
    assert room.weights(done.id) == room.weights(whole.id)
    ours, theirs = ({one.step: one for one in room.checkpoints(job)} for job in (done.id, whole.id))
    for name in ("model.safetensors", "config.json"):
        assert (Path(ours[SWITCH].path) / name).read_bytes() == (Path(theirs[SWITCH].path) / name).read_bytes()
    assert ours[STEPS].base_path == ours[SWITCH].path
    assert done.result["answers"] == whole.result["answers"]


@pytest.mark.slow
def test_a_broken_base_of_the_second_phase_is_no_ground_to_go_on_from(room, whole, monkeypatch, tmp_path):
    job_id = room.submit(tuner=PHASED, data=DATA, training=TRAINING)
    crash(monkeypatch, f"step_{SWITCH + 3}", tmp_path / "once")
    room.work(lambda: any(one.outcome for one in room.attempts(job_id)))
    monkeypatch.delenv("ATELIER_CRASH_AT")
    base = next(one for one in room.checkpoints(job_id) if one.step == SWITCH)
    with (Path(base.path) / "model.safetensors").open("ab") as file:
        file.write(b"x")
    done = room.finish(job_id)
    assert (done.state, done.reason) == ("failed", "checkpoints_broken"), room.log(job_id)


@pytest.mark.parametrize(
    "tuner",
    [
        pytest.param({"kind": "p_tuning", "num_virtual_tokens": 4, "width": 16}, id="p_tuning", marks=pytest.mark.slow),
        pytest.param({"kind": "adalora", "initial_rank": 4, "rank": 2}, id="adalora", marks=pytest.mark.slow),
        pytest.param({"kind": "lora", "rank": 4, "initialisation": "pissa"}, id="pissa", marks=pytest.mark.slow),
    ],
)
def test_a_killed_run_of_another_tuner_ends_as_one_that_was_not(room, monkeypatch, tmp_path, tuner):
    undisturbed = room.train(tuner=tuner, data=DATA, training=TRAINING)
    assert undisturbed.state == "succeeded", room.log(undisturbed.id)
    done = killed(room, monkeypatch, tmp_path, "step_5", tuner=tuner, data=DATA, training=TRAINING)
    assert room.attempts(done.id)[-1].resumed_from_step == 3
    assert room.curves(done.id) == room.curves(undisturbed.id)
    assert room.weights(done.id) == room.weights(undisturbed.id)


@pytest.fixture(scope="module")
def first(room):
    done = room.train(tuner={"kind": "lora", "rank": 4}, data=DATA, training={**TRAINING, "max_steps": 3})
    assert done.state == "succeeded", room.log(done.id)
    return done


def test_an_adapter_of_another_shape_is_merged_into_a_base_that_the_run_keeps(room, first, monkeypatch, tmp_path):
    changes = {
        "model": {"start_from": f"{first.id}@3"}, "tuner": {"kind": "lora", "rank": 2}, "data": DATA,
        "training": {**TRAINING, "max_steps": 4},
    }  # fmt: skip
    done = killed(room, monkeypatch, tmp_path, "step_4", **changes)
    assert done.result["start"] == {"from": f"{first.id}@3", "as": "merge"}
    assert [one.data for one in room.events(done.id, "start_merge")] == [{"target": f"{first.id}@3"}]
    found = {one.step: one for one in room.checkpoints(done.id)}
    assert (found[0].pinned, found[0].is_adapter, found[4].base_path) == (True, False, found[0].path)
    assert room.attempts(done.id)[-1].resumed_from_step == 3, "the base is no state to go on from"
    assert json.loads((Path(found[4].path) / "adapter_config.json").read_text())["r"] == 2
    before = load_file(Path(room.checkpoints(first.id)[-1].base_path) / "model.safetensors")
    after = load_file(Path(found[0].path) / "model.safetensors")
    name = "model.layers.0.self_attn.q_proj.weight"
    assert not before[name].float().equal(after[name].float()), "the adapter is in it"
    untouched = "model.norm.weight"
    assert before[untouched].float().equal(after[untouched].float())


@pytest.mark.slow
def test_a_run_whose_epochs_end_before_its_most_steps_ends_with_them(room):
    done = room.train(tuner={"kind": "lora", "rank": 4}, data=DATA, training={**TRAINING, "epochs": 1.0})
    assert done.state == "succeeded", room.log(done.id)
    assert done.result["steps"] == room.job(done.id).progress_total == 2


def test_an_adapter_of_the_same_shape_is_trained_further(room, first):
    done = room.train(
        model={"start_from": f"{first.id}@3"}, tuner={"kind": "lora", "rank": 4}, data=DATA,
        training={**TRAINING, "max_steps": 1, "learning_rate": 1e-12},
    )  # fmt: skip
    assert done.state == "succeeded", room.log(done.id)
    assert done.result["start"]["as"] == "continue"
    ours, theirs = (load_file(Path(room.checkpoints(job)[-1].path) / "adapter_model.safetensors") for job in (done.id, first.id))  # fmt: skip
    assert all((ours[name] - theirs[name]).abs().max() < 1e-9 for name in theirs)
