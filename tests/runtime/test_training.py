"""Real training runs of a tiny model, through the worker: methods, kills, ends, and what they leave behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import pytest
from safetensors.torch import load_file

from engine.runtime import checkpoints
from engine.specs.job import parse
from storage import datasets, jobs, models
from storage.models import NewModel
from tests.runtime.training_room import make_room


@pytest.fixture(scope="module")
def room(tiny_model, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch, make_room(tiny_model, tmp_path_factory.mktemp("home"), patch) as made:
        yield made


@pytest.fixture(scope="module")
def whole(room):
    """A LoRA run that nothing disturbed."""
    done = room.train()
    assert done.state == "succeeded", room.log(done.id)
    return done


def test_a_lora_run_learns_and_leaves_checkpoints_that_verify(room, whole):
    losses = [value for _, value in room.curve(whole.id)]
    assert len(losses) == 8
    assert losses[-1] < losses[0]
    found = room.checkpoints(whole.id)
    assert [one.step for one in found] == [3, 6, 8]
    for one in found:
        checkpoints.verify(Path(one.path))
        assert one.eval_loss is not None
    assert [step for step, _ in room.curve(whole.id, "eval_loss")] == [0, 3, 6, 8]


def test_a_run_reports_speed_memory_and_five_held_out_answers(room, whole):
    assert all(value > 0 for _, value in room.curve(whole.id, "tokens_per_second"))
    assert whole.result["peak_memory_bytes"] > 0
    assert [set(one) for one in whole.result["answers"]] == [{"prompt", "expected", "base", "tuned"}] * 5


def test_no_checkpoint_holds_a_foreign_pickle_or_a_card(room, whole):
    names = {path.name for one in room.checkpoints(whole.id) for path in Path(one.path).iterdir()}
    assert not names & {"training_args.bin", "README.md"}


def test_a_killed_trainer_goes_on_by_itself_and_ends_with_the_same_weights_and_curve(room, whole):
    job_id = room.submit()
    room.work(lambda: len(room.checkpoints(job_id)) >= 1 and (room.job(job_id).progress_step or 0) >= 4)
    os.kill(room.job(job_id).pid, signal.SIGKILL)
    done = room.finish(job_id)
    with room.store.read() as session:
        attempts = jobs.attempts(session, job_id)
    assert [(one.outcome, one.resumed_from_step) for one in attempts] == [("killed", 0), ("succeeded", 3)], room.log(
        job_id
    )
    assert done.state == "succeeded"
    assert room.curve(job_id) == room.curve(whole.id)
    assert room.curve(job_id, "eval_loss") == room.curve(whole.id, "eval_loss")
    ours, theirs = (
        load_file(Path(room.checkpoints(one)[-1].path) / "adapter_model.safetensors") for one in (job_id, whole.id)
    )
    assert all(ours[name].equal(theirs[name]) for name in theirs)


def test_a_run_that_died_after_its_last_step_trains_no_further(room, whole):
    job_id = room.submit()
    room.work(lambda: any(one.step == 8 for one in room.checkpoints(job_id)))
    os.kill(room.job(job_id).pid, signal.SIGKILL)
    done = room.finish(job_id)
    with room.store.read() as session:
        assert [one.resumed_from_step for one in jobs.attempts(session, job_id)] == [0, 8], room.log(job_id)
    assert room.curve(job_id) == room.curve(whole.id)
    assert [one.step for one in room.checkpoints(job_id)] == [3, 6, 8]
    assert {name: done.result[name] for name in ("steps", "loss", "best_step", "answers")} == {
        name: whole.result[name] for name in ("steps", "loss", "best_step", "answers")
    }


def test_early_stopping_keeps_what_it_stopped_at(room):
    training = {"early_stopping_patience": 1, "eval_every_steps": 2, "save_every_steps": 100, "learning_rate": 1e-30}
    done = room.train(training=training)
    assert (done.state, done.reason) == ("succeeded", "stopped_early"), room.log(done.id)
    assert [one.step for one in room.checkpoints(done.id)] == [done.result["steps"]]


@pytest.mark.slow
def test_a_row_beyond_the_models_context_is_refused_before_a_step(room, tiny_model, tmp_path):
    shutil.copytree(tiny_model, tmp_path / "short")
    config = json.loads((tmp_path / "short" / "config.json").read_text())
    (tmp_path / "short" / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 40}))
    with room.store.write() as session:
        models.add(session, NewModel(name="short", path=str(tmp_path / "short"), source="folder", bytes=1))
    done = room.train(model={"id": "short"})
    assert (done.state, done.reason) == ("failed", "spec_longer_than_context"), room.log(done.id)
    assert done.values["allowed"] == 40 and not room.curve(done.id)


@pytest.mark.slow
def test_a_broken_newest_checkpoint_is_skipped_with_a_word(room):
    job_id = room.submit()
    room.work(lambda: len(room.checkpoints(job_id)) >= 2)
    newest = Path(room.checkpoints(job_id)[-1].path)
    os.kill(room.job(job_id).pid, signal.SIGKILL)
    (newest / "adapter_model.safetensors").write_bytes(b"x")
    done = room.finish(job_id)
    with room.store.read() as session:
        attempts, events = jobs.attempts(session, job_id), jobs.events(session, job_id)
    assert done.state == "succeeded", room.log(job_id)
    assert attempts[-1].resumed_from_step == 3
    assert [one.data["step"] for one in events if one.kind == "checkpoint_skipped"] == [6]


def test_qlora_trains_on_real_4_bit_weights_and_keeps_its_adapter_in_float32(room):
    done = room.train(model={"quantization": "nf4"})
    assert done.state == "succeeded", room.log(done.id)
    last = room.checkpoints(done.id)[-1]
    assert (last.quantization, last.is_adapter) == ("nf4", True)
    weights = load_file(Path(last.path) / "adapter_model.safetensors")
    assert {str(one.dtype) for one in weights.values()} == {"torch.float32"}
    assert any(one.abs().sum() > 0 for name, one in weights.items() if "lora_B" in name)


def test_full_fine_tuning_leaves_a_whole_model(room):
    done = room.train(tuner={"kind": "full"})
    assert done.state == "succeeded", room.log(done.id)
    last = Path(room.checkpoints(done.id)[-1].path)
    assert {"model.safetensors", "config.json", "tokenizer.json", "generation_config.json"} <= {
        one.name for one in last.iterdir()
    }
    assert room.checkpoints(done.id)[-1].base_path == str(last)


@pytest.mark.slow
def test_a_packed_run_trains(room):
    done = room.train(data={"packing": True})
    assert done.state == "succeeded", room.log(done.id)
    assert room.curve(done.id)[-1][1] < room.curve(done.id)[0][1]


@pytest.mark.slow
def test_dpo_goes_on_from_an_earlier_run_and_shows_its_rewards(room, whole):
    done = room.train(
        model={"start_from": f"{whole.id}@8"}, data={"dataset": "preferences"}, objective={"kind": "dpo"},
        training={"learning_rate": 1e-3, "max_steps": 6, "eval_every_steps": 3},
    )  # fmt: skip
    assert done.state == "succeeded", room.log(done.id)
    margins = room.curve(done.id, "rewards/margins")
    assert margins[0][1] == pytest.approx(0.0, abs=1e-4), "the reference is the start itself"
    assert margins[-1][1] > 0.0
    assert {name for name in ("rewards/chosen", "rewards/rejected", "rewards/accuracies") if room.curve(done.id, name)}
    assert room.checkpoints(done.id)[-1].base_path == room.checkpoints(whole.id)[-1].base_path


@pytest.mark.slow
def test_dpo_with_all_weights_compares_with_a_frozen_copy(room):
    done = room.train(
        data={"dataset": "preferences"},
        objective={"kind": "dpo"},
        tuner={"kind": "full"},
        training={"learning_rate": 1e-4, "max_steps": 4},
    )
    assert done.state == "succeeded", room.log(done.id)
    assert room.curve(done.id, "rewards/margins")[-1][1] > 0.0


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_last_good_checkpoint(room):
    done = room.train(
        training={
            "learning_rate": 1e9,
            "save_every_steps": 1,
            "eval_every_steps": 1,
            "warmup_ratio": 0.3,
            "max_grad_norm": 1000.0,
            "max_steps": 40,
        }
    )
    assert done.state == "failed", room.log(done.id)
    assert done.reason in ("non_finite", "diverged"), "which of them is up to the order of sums on this processor"
    assert 0 < len(room.curve(done.id)) < 40, "it was stopped on the way"
    assert room.checkpoints(done.id), "the last good one stays"
    for one in room.checkpoints(done.id):
        checkpoints.verify(Path(one.path))
        weights = load_file(Path(one.path) / "adapter_model.safetensors")
        assert all(tensor.isfinite().all() for tensor in weights.values())


def test_pause_resume_and_stop_and_keep_lose_no_step(room, whole):
    job_id = room.submit()
    room.work(lambda: (room.job(job_id).progress_step or 0) >= 2)
    with room.store.write() as session:
        jobs.pause(session, job_id)
    room.work(lambda: room.job(job_id).held)
    paused = room.job(job_id)
    assert paused.state == "queued"
    reached = room.checkpoints(job_id)[-1].step
    with room.store.write() as session:
        jobs.resume(session, job_id)
    room.work(lambda: room.job(job_id).state == "running" and (room.job(job_id).progress_step or 0) > reached)
    with room.store.write() as session:
        jobs.stop_and_keep(session, job_id)
    done = room.finish(job_id)
    assert (done.state, done.attempt) == ("succeeded", 2), room.log(job_id)
    steps = [step for step, _ in room.curve(job_id)]
    assert steps == list(range(1, len(steps) + 1))
    assert dict(room.curve(job_id)).items() <= dict(room.curve(whole.id)).items()


def test_a_trainer_sees_the_tokens_that_the_view_shows(room, whole, starter):
    import pyarrow.parquet as pq
    from transformers import AutoTokenizer

    from engine.data.render import Renderer
    from engine.data.room import Room
    from engine.data.tokens import prepare, view

    spec = parse(whole.spec)
    with room.store.read() as session:
        version = datasets.get(session, "tickets")
    renderer = Renderer(AutoTokenizer.from_pretrained(starter))
    prepared = prepare(Path(version.path), renderer, spec, room.home.datasets / "tokens")
    trained = [
        (tuple(row["input_ids"]), tuple(row["labels"])) for row in pq.read_table(prepared.train_path).to_pylist()
    ]
    shown = set()
    for row in pq.read_table(version.path).to_pylist():
        tokens = [
            one
            for one in view(row, renderer, spec.objective, Room(spec.data.max_length))["tokens"]
            if one["state"] != "cut"
        ]
        shown.add((tuple(one["id"] for one in tokens), tuple(one["id"] if one["trained"] else -100 for one in tokens)))
    assert trained
    assert set(trained) <= shown


def test_the_result_names_what_was_trained(whole):
    assert json.loads(json.dumps(whole.result))["counts"]["test_rows"] == 60
