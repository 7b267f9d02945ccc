"""New tokens: a base of the run's own that knows them, adapters on it, runs that go on from there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from engine.exporters.merged import merge
from engine.models.loading import dequantised, load_adapter, load_model, load_tokenizer
from engine.models.serving import Served
from engine.runtime import checkpoints
from engine.specs.job import parse
from storage import jobs
from tests.runtime.test_bit_exact import crash
from tests.runtime.training_room import add_rows, make_room

NEW = ("<north>", "<south>")
TRAINING = {"max_steps": 4, "batch_size": 2, "gradient_accumulation": 1, "save_every_steps": 2, "eval_every_steps": 2}
DATA = {"dataset": "winds", "max_length": 64, "eval_fraction": 0.2}
TUNER = {"kind": "lora", "rank": 2}


@pytest.fixture(scope="module")
def room(tiny_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch, make_room(tiny_model, folder, patch) as made:
        path = folder / "winds.jsonl"
        lines = [{"prompt": f"Wind {number}?", "completion": NEW[number % 2]} for number in range(20)]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        add_rows(made, "winds", path)
        yield made


def train(room, **changes):
    model = {"add_tokens": " ".join(NEW), **changes.pop("model", {})}
    done = room.train(**{"model": model, "data": DATA, "tuner": TUNER, "training": TRAINING, **changes})
    assert done.state == "succeeded", room.log(done.id)
    return done


@pytest.fixture(scope="module")
def quantised(room, tmp_path_factory):
    """A run on an nf4 base that dies after its first checkpoint."""
    with pytest.MonkeyPatch.context() as patch:
        crash(patch, "step_3", tmp_path_factory.mktemp("crash") / "mark")
        return train(room, model={"quantization": "nf4"})


def test_the_base_that_knows_them_is_checkpoint_0_and_the_adapters_stand_on_it(room, quantised, tiny_model):
    first, *others = room.checkpoints(quantised.id)
    assert (first.step, first.pinned, first.is_adapter, first.quantization) == (0, True, False, "none")
    assert {(one.base_path, one.quantization) for one in others} == {(first.path, "nf4")}
    checkpoints.verify(Path(first.path))
    ids = load_tokenizer(first.path).convert_tokens_to_ids(list(NEW))
    assert min(ids) == len(load_tokenizer(tiny_model))
    assert [one.data["tokens"] for one in room.events(quantised.id, "tokens_added")] == [" ".join(NEW)]
    assert [one.outcome for one in room.attempts(quantised.id)] == ["killed", "succeeded"]


def test_their_rows_are_learned_and_no_others(room, quantised):
    first, *_, last = room.checkpoints(quantised.id)
    plain = load_model(first.path, dtype="float32").get_input_embeddings().weight
    merged = merge(load_adapter(dequantised(first.path, quantization="nf4", dtype="float32"), Path(last.path)))
    moved = (merged.get_input_embeddings().weight - plain).abs().amax(-1)
    ids = load_tokenizer(first.path).convert_tokens_to_ids(list(NEW))
    assert moved[ids].min() > 0
    moved[ids] = 0
    assert moved.max() == 0


def test_the_chat_knows_them_and_shows_them(room, quantised):
    first, *_, last = room.checkpoints(quantised.id)
    served = Served(Path(first.path), quantization="nf4", dtype="float32", device="cpu")
    voice = served.voice(Path(last.path))
    (rendered,) = voice.renderer.conversation(
        [{"role": "user", "content": "a"}, {"role": "assistant", "content": NEW[0]}]
    )
    wanted = load_tokenizer(first.path).convert_tokens_to_ids(NEW[0])
    assert rendered.ids.count(wanted) == 1


def test_a_run_with_the_same_tokens_goes_on_with_the_adapter_and_one_without_is_told_what_it_lacks(room, quantised):
    wanted = {"quantization": "nf4", "start_from": str(quantised.id)}
    training = {**TRAINING, "max_steps": 1}
    refused = room.train(model={**wanted, "add_tokens": None}, data=DATA, tuner=TUNER, training=training)
    assert (refused.state, refused.reason) == ("failed", "start_merge_rounds")
    on = train(room, model=wanted, training=training)
    assert on.result["start"]["as"] == "continue"
    assert room.checkpoints(on.id)[-1].base_path == room.checkpoints(quantised.id)[0].path


@pytest.fixture(scope="module")
def fully(room):
    return train(room, tuner={"kind": "full"}, training={**TRAINING, "max_steps": 2})


@pytest.mark.slow
def test_all_weights_learn_them_too(room, fully):
    first, last = room.checkpoints(fully.id)
    tokenizer = load_tokenizer(last.path)
    ids = tokenizer.convert_tokens_to_ids(list(NEW))
    before, after = (
        load_file(Path(one.path) / "model.safetensors")["model.embed_tokens.weight"] for one in (first, last)
    )
    assert len(after) == len(tokenizer)
    assert not torch.equal(before[ids].float(), after[ids].float())


@pytest.mark.slow
def test_on_whole_weights_that_know_them_no_second_base_is_made(room, fully):
    on = train(room, model={"start_from": str(fully.id)}, tuner=TUNER, training={**TRAINING, "max_steps": 1})
    assert {one.base_path for one in room.checkpoints(on.id)} == {room.checkpoints(fully.id)[-1].path}


def test_a_trial_measures_with_them_and_keeps_nothing(room):
    spec = {"model": {"id": "tiny", "dtype": "float32", "add_tokens": " ".join(NEW)}, "data": DATA, "tuner": TUNER}
    whole = parse(
        {**spec, "objective": {"kind": "sft"}, "training": {**TRAINING, "learning_rate": 1e-3, "precision": "bf16"}}
    )
    with room.store.write() as session:
        run = {"run": whole.model_dump(mode="json")}
        job = jobs.submit(session, kind="trial", name="trial", spec=run, lane="gpu")
    done = room.finish(job.id)
    assert done.state == "succeeded", room.log(job.id)
    assert done.result["seconds_per_step"] > 0
    assert not list(room.home.runs.glob(f"{job.id}/**/*.safetensors"))
