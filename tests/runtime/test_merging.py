"""Merges of real checkpoints: the result speaks as computed by hand, and is a target like any other."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from sqlalchemy import insert

from app import merges, submission
from engine.exporters.merged import merge as fold
from engine.models.loading import load_adapter, load_model, load_tokenizer
from engine.runtime import checkpoints as checkpoint_files
from engine.runtime import merging
from engine.runtime.checkpoints import NoSpace
from engine.runtime.child import Context
from engine.specs.problem import ProblemError
from storage import checkpoints, jobs, targets
from storage.errors import Conflict
from storage.jobs import Settlement
from storage.states import State
from tests.runtime.conftest import HOLDER, Studio

IDS = torch.tensor([[1, 5, 9, 200, 7, 33]])
ROWS = [
    {"messages": [{"role": "user", "content": f"How much is {n}?"}, {"role": "assistant", "content": f"It is {n}."}]}
    for n in range(40)
]


@pytest.fixture
def room(studio: Studio, tiny_model: Path) -> Studio:
    studio.add_base("tiny", tiny_model, dtype="bfloat16")
    studio.add_rows("rows", ROWS)
    return studio


@pytest.fixture
def lora(room: Studio, write_adapter: Any, tiny_model: Path) -> Callable[..., int]:
    def make(seed: int, **told: Any) -> int:
        told = {"data": {"dataset": "rows", "version": 1, "max_length": 256}, **told}
        return room.add_run("tiny", write_adapter(tiny_model, seed=seed, strength=0.1), **told)

    return make


def run(room: Studio, **wanted: Any) -> tuple[int, dict[str, Any]]:
    """Submit a merge as a person does, do it, settle it; gives its id and what it said."""
    with room.store.write() as session:
        job = merges.submit(session, wanted)
        claimed = jobs.claim(session, HOLDER, lanes=["gpu"], lease_s=600)
    assert claimed is not None and claimed[0].job_id == job.id
    context = Context(room.home, room.store, claimed[1], claimed[0])
    context.folder.mkdir(parents=True)
    result = merging.main(context)
    with room.store.write() as session:
        jobs.settle(session, claimed[0], Settlement(State.SUCCEEDED, exit_code=0, result=result))
    return job.id, result


def sources(*runs: Any) -> list[dict[str, Any]]:
    return [{"target": str(one)} for one in runs]


def logits(room: Studio, text: str) -> torch.Tensor:
    """What a target says, loaded as the chat loads it."""
    with room.store.read() as session:
        target = targets.resolve(session, text)
    model = load_model(target.base_path, quantization=target.quantization, dtype="float32")
    if target.adapter_path:
        model = load_adapter(model, target.adapter_path)
    with torch.inference_mode():
        return model(IDS).logits


def whole_at(tiny_model: Path, adapter: Path) -> dict[str, torch.Tensor]:
    """The weights with an adapter folded in by the library."""
    model = fold(load_adapter(load_model(tiny_model, dtype="float32"), adapter))
    return {name: value.detach() for name, value in model.named_parameters()}


def whole(room: Studio, tiny_model: Path, job_id: int) -> dict[str, torch.Tensor]:
    """The weights that a run speaks with."""
    with room.store.read() as session:
        path = targets.resolve(session, str(job_id)).adapter_path
    assert path is not None
    return whole_at(tiny_model, Path(path))


def said_by(tiny_model: Path, weights: dict[str, torch.Tensor]) -> torch.Tensor:
    model = load_model(tiny_model, dtype="float32")
    with torch.no_grad():
        for name, value in model.named_parameters():
            value.copy_(weights[name])
    with torch.inference_mode():
        return model(IDS).logits


def test_the_mean_of_two_adapters_is_an_adapter_and_speaks_as_computed_by_hand(room, lora, tiny_model):
    first, second = lora(1), lora(2)
    number, said = run(room, sources=sources(first, second), method={"kind": "linear"})
    assert (said["form"], said["rank"], said["kept"]) == ("adapter", 8, 1.0)
    one, two = whole(room, tiny_model, first), whole(room, tiny_model, second)
    by_hand = said_by(tiny_model, {name: (one[name] + two[name]) / 2 for name in one})
    assert torch.allclose(logits(room, str(number)), by_hand, atol=2e-5)
    assert not torch.allclose(logits(room, str(first)), by_hand, atol=1e-2)


def test_whole_weights_speak_as_computed_by_hand(room, lora, tiny_model):
    first, second = lora(1), lora(2)
    weighted = [{"target": str(first), "weight": 3}, {"target": str(second), "weight": 1}]
    number, said = run(room, sources=weighted, method={"kind": "linear"}, form="weights")
    assert said["dtype"] == "float32"
    one, two = whole(room, tiny_model, first), whole(room, tiny_model, second)
    by_hand = said_by(tiny_model, {name: 0.75 * one[name] + 0.25 * two[name] for name in one})
    assert torch.allclose(logits(room, str(number)), by_hand, atol=2e-5)
    with room.store.read() as session:
        made = checkpoints.get(session, number, 10)
    assert (made.is_adapter, made.base_path, made.pinned) == (False, made.path, True)
    assert load_tokenizer(made.path).get_vocab() == load_tokenizer(tiny_model).get_vocab()
    assert json.loads((Path(made.path) / "config.json").read_text())["dtype"] == "float32"


def test_ties_of_changes_is_added_to_the_common_base(room, lora, tiny_model):
    from peft.utils.merge_utils import ties

    first, second = lora(1), lora(2)
    number, said = run(room, sources=sources(first, second), method={"kind": "ties", "density": 0.5})
    assert said["form"] == "weights"
    base = {name: value.detach() for name, value in load_model(tiny_model, dtype="float32").named_parameters()}
    one, two = whole(room, tiny_model, first), whole(room, tiny_model, second)
    by_hand = {n: base[n] + ties([one[n] - base[n], two[n] - base[n]], torch.ones(2), 0.5) for n in base}
    with room.store.read() as session:
        made = load_file(Path(targets.resolve(session, str(number)).base_path) / "model.safetensors")
    for name, value in made.items():
        near = torch.isclose(value, by_hand[name], atol=1e-6).float().mean()
        assert near > 0.99, name  # a value at the very limit may fall on either side of it


def test_a_merged_adapter_that_is_no_mean_is_the_nearest_of_its_rank_and_says_how_near(room, lora):
    told = {"sources": sources(lora(1), lora(2)), "method": {"kind": "ties", "density": 0.5}, "form": "adapter"}
    _, narrow = run(room, **told, rank=4)
    _, wide = run(room, **told, rank=64)
    assert 0.2 < narrow["kept"] < wide["kept"] == pytest.approx(1.0, abs=1e-5)


def test_adapters_of_different_ranks_become_one_as_wide_as_both(room, lora, tiny_model, write_adapter):
    def wide(folder: Path) -> None:
        from peft import LoraConfig, get_peft_model

        torch.manual_seed(9)
        settings = LoraConfig(r=6, target_modules="all-linear", task_type="CAUSAL_LM", use_rslora=True)
        model = get_peft_model(load_model(tiny_model, dtype="float32"), settings)
        for name, value in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(value, std=0.1)
        model.save_pretrained(str(folder))

    first, second = lora(1), room.add_run("tiny", wide)
    number, said = run(room, sources=sources(first, second), method={"kind": "linear", "scale": 2.0})
    assert said["rank"] == 10
    base = {name: value.detach() for name, value in load_model(tiny_model, dtype="float32").named_parameters()}
    one, two = whole(room, tiny_model, first), whole(room, tiny_model, second)
    by_hand = said_by(tiny_model, {name: one[name] + two[name] - base[name] for name in base})
    assert torch.allclose(logits(room, str(number)), by_hand, atol=5e-5)


def test_adapters_on_a_quantised_base_are_folded_into_what_they_saw(room, lora):
    first, second = (lora(seed, quantization="nf4") for seed in (1, 2))
    told = {"sources": sources(first, second), "method": {"kind": "linear"}}
    adapter, said = run(room, **told)
    assert said["form"] == "adapter"
    weights, said = run(room, **told, form="weights")
    near = (logits(room, str(adapter)) - logits(room, str(weights))).abs().max()
    far = (logits(room, str(first)) - logits(room, str(weights))).abs().max()
    assert near < 0.1 * far
    ties, _ = run(room, **told | {"method": {"kind": "ties", "density": 1.0, "scale": 1e-6}})
    unchanged = load_model(room.bases["tiny"], quantization="nf4", dtype="float32")
    with torch.inference_mode():
        assert (unchanged(IDS).logits - logits(room, str(ties))).abs().max() < 0.1 * far


def test_fisher_follows_what_the_answers_depend_on(room, lora, tiny_model):
    first, second = lora(1), lora(2)
    method = {"kind": "fisher", "rows": 4, "floor": 1e-12}
    number, said = run(room, sources=sources(first, second), method=method)
    assert said["form"] == "weights"
    one, two = whole(room, tiny_model, first), whole(room, tiny_model, second)
    with room.store.read() as session:
        made = load_file(Path(targets.resolve(session, str(number)).base_path) / "model.safetensors")
    for name, value in made.items():
        low, high = torch.minimum(one[name], two[name]), torch.maximum(one[name], two[name])
        assert ((value >= low - 1e-5) & (value <= high + 1e-5)).all(), name
    share = torch.cat([((made[n] - two[n]) / (one[n] - two[n]))[(one[n] - two[n]).abs() > 1e-3] for n in made])
    assert share.std() > 0.2, "the two do not matter equally everywhere"


def test_the_merge_is_exported_gone_on_from_and_deleted_like_a_run(room, lora):
    first, second = lora(1), lora(2)
    number, _ = run(room, sources=sources(first, second), method={"kind": "linear"}, name="both")
    spec = {"target": f"{number}@10", "form": "merged", "base": "trained"}
    code, said = room.run_child("export", spec)
    assert code == 0 and said["result"]["checks"]["passed"], said
    card = (Path(said["result"]["path"]) / "README.md").read_text()
    assert "## Merged" in card and "linear" in card
    data = {"dataset": "rows", "max_length": 64}
    wanted = {"name": "on", "model": {"start_from": str(number)}, "data": data, "tuner": {"kind": "lora", "rank": 8}}
    with room.store.write() as session:
        prepared = submission.prepare(session, wanted)
        assert (prepared.model.start_from, prepared.model.id) == (f"{number}@10", "tiny")
        submission.prepare(session, {**wanted, "tuner": {"kind": "lora", "rank": 4}})  # it is merged into its base
        on = {"start_from": str(number), "start_as": "continue"}
        with pytest.raises(ProblemError, match="start_merged_adapter"):
            submission.prepare(session, {**wanted, "model": on})
        jobs.delete(session, number)


def test_sources_are_kept_while_the_merge_waits(room, lora):
    first, second = lora(1), lora(2)
    wanted = {"sources": sources(first, second), "method": {"kind": "linear"}}
    with room.store.write() as session:
        job = merges.submit(session, wanted)
        assert merges.submit(session, wanted).id == job.id, "a double click makes one"
        for one in (first, second):
            assert checkpoints.get(session, one, 10).pinned
            with pytest.raises(Conflict, match="job_merged"):
                jobs.delete(session, one)
        jobs.cancel(session, job.id)
        for one in (first, second):
            jobs.delete(session, one)


def test_a_kill_in_the_middle_leaves_nothing_half(room, lora, monkeypatch):
    first, second = lora(1), lora(2)
    with room.store.write() as session:
        wanted = {"sources": sources(first, second), "method": {"kind": "linear"}}
        spec = merges.prepare(session, wanted).model_dump(mode="json")
    monkeypatch.setenv("ATELIER_CRASH_AT", "checkpoint_after_rename")
    code, _ = room.run_child("merge", spec)
    assert code == -9
    with room.store.read() as session:
        job = jobs.listing(session, kinds=["merge"], limit=1)[0]
        assert checkpoints.listing(session, job.id) == []
    folder = room.home.runs / str(job.id)
    (folder / "1" / ".tmp-10-1").mkdir()  # as of a kill before the rename
    monkeypatch.delenv("ATELIER_CRASH_AT")
    with room.store.write() as session:
        jobs.settle(session, jobs.Claim(job.id, job.attempt, job.token), Settlement("requeue", reason="killed"))
        again = jobs.claim(session, HOLDER, lanes=["cpu"], lease_s=600)
    assert again is not None
    context = Context(room.home, room.store, again[1], again[0])
    context.folder.mkdir(parents=True)
    merging.main(context)
    with room.store.read() as session:
        (made,) = checkpoints.listing(session, job.id)
    left = [*folder.glob("*/checkpoint*"), *folder.glob("*/.*")]
    assert [str(one) for one in left] == [made.path]


def test_a_result_that_the_disk_has_no_room_for_is_not_begun(room, lora, monkeypatch):
    first, second = lora(1), lora(2)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 90, 10))
    with pytest.raises(NoSpace):
        run(room, sources=sources(first, second), method={"kind": "linear"}, form="weights")
    assert not list(room.home.runs.glob("3/*/*"))


def test_ema_takes_the_checkpoints_of_one_run(room, write_adapter, tiny_model):
    number = room.add_run("tiny", write_adapter(tiny_model, seed=1, strength=0.1))
    for step, seed in ((20, 2), (30, 3)):
        folder = room.home.runs / str(number) / "1" / f"checkpoint-{step}"
        write_adapter(tiny_model, seed=seed, strength=0.1)(folder)
        row = {"job_id": number, "step": step, "token": 1, "path": str(folder), "manifest_sha": "", "bytes": 1}
        kind = {"base_path": str(tiny_model), "base_key": "", "quantization": "none", "dtype": "float32"}
        told = {"created_at": 0.0, "pinned": False, "is_adapter": True, "head": "language"}
        with room.store.write() as session:
            session.execute(insert(checkpoints.checkpoint).values(row | kind | told))
        checkpoint_files._write_manifest(folder, step=step, token=1, spec={}, seen=lambda: None)
    made, said = run(room, sources=sources(number), method={"kind": "ema", "decay": 0.25})
    assert (said["form"], said["rank"]) == ("adapter", 12)
    with room.store.read() as session:
        assert checkpoints.listing(session, made)[0].step == 30
        spec = jobs.get(session, made).spec
    assert [one["target"] for one in spec["sources"]] == [f"{number}@{step}" for step in (10, 20, 30)]
    steps = [
        {**whole_at(tiny_model, Path(room.home.runs / str(number) / "1" / f"checkpoint-{s}"))} for s in (10, 20, 30)
    ]
    shares = (0.0625, 0.1875, 0.75)
    by_hand = {n: sum(share * one[n] for share, one in zip(shares, steps, strict=True)) for n in steps[0]}
    assert torch.allclose(logits(room, str(made)), said_by(tiny_model, by_hand), atol=2e-5)


def other_model(tiny_model: Path, folder: Path, change: Any) -> Path:
    """A copy of the model that differs in something."""
    shutil.copytree(tiny_model, folder)
    change(folder)
    return folder


def other_template(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("{% for m in messages %}{{ m.content }}{% endfor %}")


def other_tokens(folder: Path) -> None:
    path = folder / "tokenizer.json"
    told = json.loads(path.read_text())
    told["added_tokens"].append({**told["added_tokens"][-1], "id": 49152, "content": "<more>"})
    path.write_text(json.dumps(told))


def other_architecture(folder: Path) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "architectures": ["OtherForCausalLM"]}))


def other_shape(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"] = torch.ones(32)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (other_template, "merge_other_template"),
        (other_tokens, "merge_other_vocabulary"),
        (other_architecture, "merge_other_architecture"),
        (other_shape, "merge_other_shapes"),
    ],
)
def test_models_that_do_not_fit_are_refused_with_the_reason(room, tiny_model, tmp_path, change, code):
    room.add_base("other", other_model(tiny_model, tmp_path / "other", change))
    with pytest.raises(ProblemError, match=code):
        run(room, sources=sources("base:tiny", "base:other"), method={"kind": "linear"})


def test_models_without_a_common_base_are_merged_without_one(room, tiny_model, tmp_path):
    def changed(folder: Path) -> None:
        weights = load_file(folder / "model.safetensors")
        save_file({n: v * 3 for n, v in weights.items()}, folder / "model.safetensors", metadata={"format": "pt"})

    room.add_base("other", other_model(tiny_model, tmp_path / "other", changed))
    number, said = run(room, sources=sources("base:tiny", "base:other"), method={"kind": "linear"})
    assert said["dtype"] == "bfloat16"
    with room.store.read() as session:
        made = load_file(Path(targets.resolve(session, f"{number}@0").base_path) / "model.safetensors")
    stored = load_file(tiny_model / "model.safetensors")
    assert all(torch.allclose(made[name].float(), stored[name].float() * 2, rtol=0.01) for name in made)


@pytest.mark.parametrize(
    ("wanted", "code"),
    [
        ({"method": {"kind": "nothing"}}, "spec_not_a_choice"),
        ({"method": {"kind": "slerp"}, "more": 1}, "merge_too_many"),
        ({"method": {"kind": "ema"}}, "merge_not_one_run"),
        ({"method": {"kind": "fisher"}, "form": "adapter"}, "merge_needs_weights"),
        ({"method": {"kind": "linear"}, "form": "adapter", "base_too": True}, "merge_other_base"),
        ({"method": {"kind": "linear"}, "twice": True}, "merge_twice"),
        ({"method": {"kind": "linear"}, "gone": True}, "merge_source_missing"),
        ({"method": {"kind": "linear"}, "data": "nothing"}, "data_not_there"),
    ],
)
def test_a_merge_that_cannot_be_is_refused_before_it_is_queued(room, lora, wanted, code):
    runs: list[Any] = [lora(1), lora(2)]
    runs += [lora(3)] if wanted.pop("more", None) else []
    runs += ["base:tiny"] if wanted.pop("base_too", None) else []
    runs += [runs[0]] if wanted.pop("twice", None) else []
    runs += ["99@1"] if wanted.pop("gone", None) else []
    with room.store.write() as session, pytest.raises(ProblemError, match=code):
        merges.submit(session, {"sources": sources(*runs), **wanted})


def test_changes_of_different_models_need_a_base_that_is_named(room, lora, tiny_model, write_adapter):
    room.add_base("other", tiny_model.parent / "tiny")
    first, second = lora(1), room.add_run("other", write_adapter(tiny_model, seed=2))
    wanted = {"sources": sources(first, second), "method": {"kind": "ties"}}
    with room.store.write() as session:
        with pytest.raises(ProblemError, match="merge_no_common_base"):
            merges.prepare(session, wanted)
        assert merges.prepare(session, {**wanted, "base": "base:tiny"}).base == "base:tiny"
