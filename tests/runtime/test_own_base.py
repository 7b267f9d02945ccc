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


def test_a_later_run_goes_on_where_it_names_them_as_trained_and_else_is_told_so(room, quantised):
    wanted = {"add_tokens": None, "quantization": "nf4", "start_from": str(quantised.id), "start_as": "continue"}
    training = {**TRAINING, "max_steps": 1}
    refused = room.train(model=wanted, data=DATA, tuner=TUNER, training=training)
    assert refused.reason == "start_from_setting"
    assert (refused.values["setting"], refused.values["allowed"]) == ("tuner.train_tokens", " ".join(NEW))
    on = train(room, model=wanted, tuner={**TUNER, "train_tokens": " ".join(NEW)}, training=training)
    assert on.result["start"]["as"] == "continue"
    assert room.checkpoints(on.id)[-1].base_path == room.checkpoints(quantised.id)[0].path


def test_all_weights_learn_them_too(room):
    done = train(room, tuner={"kind": "full"}, training={**TRAINING, "max_steps": 2})
    first, last = room.checkpoints(done.id)
    tokenizer = load_tokenizer(last.path)
    ids = tokenizer.convert_tokens_to_ids(list(NEW))
    before, after = (
        load_file(Path(one.path) / "model.safetensors")["model.embed_tokens.weight"] for one in (first, last)
    )
    assert len(after) == len(tokenizer)
    assert not torch.equal(before[ids].float(), after[ids].float())


def test_a_token_that_the_model_has_fails_the_run_with_its_name(room, tiny_model):
    known = next(iter(load_tokenizer(tiny_model).added_tokens_encoder))
    failed = room.train(model={"add_tokens": known}, data=DATA, tuner=TUNER, training=TRAINING)
    assert (failed.state, failed.reason, failed.values["given"]) == ("failed", "model_token_known", known)
