"""The studio's own copy of a model holds known files without anything that could start code."""

from __future__ import annotations

import json

import pytest

from engine.models.copying import copy_model, keep_model, must_be_unchanged, sanitise
from engine.specs.problem import ProblemError


def test_only_known_files_are_copied(folder, tmp_path):
    for name in ("training_args.bin", "notes.txt", "optimizer.safetensors", "run.sh.json"):
        (folder / name).write_bytes(b"x")
    (folder / "sub").mkdir()
    into = tmp_path / "copy"
    into.mkdir()
    copy_model(folder, into)
    assert {path.name for path in into.iterdir()} == {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
    }
    assert (into / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()


def test_the_same_files_give_the_same_digest_and_others_another(folder, tmp_path, change_json):
    digests = []
    for number in range(3):
        into = tmp_path / str(number)
        into.mkdir()
        if number == 2:
            change_json(folder / "config.json", rope_theta=5.0)
        digests.append(copy_model(folder, into))
    assert digests[0] == digests[1] != digests[2]


def test_dangerous_and_unknown_keys_are_left_out():
    config = {
        "model_type": "llama",
        "auto_map": {},
        "custom_pipelines": {},
        "_attn_implementation_internal": "x",
        "attn_implementation": "x",
        "use_kernels": True,
        "hub_kernels": "x/y",
        "trust_remote_code": True,
        "surprise": 1,
        "text_config": {"auto_map": {}, "hidden_size": 4},
    }
    assert sanitise(config, known={"model_type", "text_config", "auto_map"}) == {
        "model_type": "llama",
        "text_config": {"hidden_size": 4},
    }


def test_links_are_not_copied(folder, tmp_path):
    (folder / "merges.txt").symlink_to("/etc/passwd")
    (tmp_path / "copy").mkdir()
    with pytest.raises(ProblemError, match="model_file_not_plain"):
        copy_model(folder, tmp_path / "copy")


def test_our_own_files_are_linked_not_written_twice(folder, tmp_path):
    (tmp_path / "copy").mkdir()
    seen = []
    copy_model(folder, tmp_path / "copy", keep_files=True, copied=seen.append)
    same = (tmp_path / "copy" / "model.safetensors").stat().st_ino == (folder / "model.safetensors").stat().st_ino
    assert same and sum(seen) >= (folder / "model.safetensors").stat().st_size


def test_a_copy_loads_like_its_source(folder, tmp_path):
    import torch

    from engine.models.loading import load_model, load_tokenizer
    from engine.runtime.add_model import known_keys

    (tmp_path / "copy").mkdir()
    copy_model(folder, tmp_path / "copy", known=known_keys("llama"))
    assert "rope_parameters" in json.loads((tmp_path / "copy" / "config.json").read_text())
    ids = torch.tensor([[1, 5, 9, 200]])
    with torch.inference_mode():
        ours, theirs = load_model(tmp_path / "copy")(ids).logits, load_model(folder)(ids).logits
    assert torch.equal(ours, theirs)
    assert load_tokenizer(tmp_path / "copy").encode("a b") == load_tokenizer(folder).encode("a b")


@pytest.mark.parametrize("name", ["model.safetensors", "chat_template.jinja", "config.json", "tokenizer.json"])
def test_a_copy_whose_files_changed_is_refused(folder, tmp_path, name):
    kept = keep_model(folder, tmp_path / ".tmp-copy")
    must_be_unchanged(kept)
    data = bytearray((kept / name).read_bytes())
    data[len(data) // 2] ^= 1
    (kept / name).write_bytes(data)
    with pytest.raises(ProblemError, match="model_changed"):
        must_be_unchanged(kept)


def test_a_copy_that_lost_a_file_is_refused(folder, tmp_path):
    kept = keep_model(folder, tmp_path / ".tmp-copy")
    (kept / "generation_config.json").unlink()
    with pytest.raises(ProblemError, match="model_changed"):
        must_be_unchanged(kept)
