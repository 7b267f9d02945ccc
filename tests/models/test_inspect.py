"""Models from outside: what they are is told, what they could do to us is refused."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from engine.models.inspect import causal_types, inspect
from engine.models.weights import MAX_HEADER_BYTES, tensors
from engine.specs.problem import ProblemError

ROOT = Path(__file__).resolve().parents[2]


def codes(folder: Path) -> set[str]:
    with pytest.raises(ProblemError) as caught:
        inspect(folder)
    return {item.code for item in caught.value.problems}


def test_the_facts_of_a_good_folder_are_told(folder):
    facts = inspect(folder)
    assert facts["model_type"] == "llama" and facts["architecture"] == "LlamaForCausalLM"
    assert facts["num_layers"] == 2 and facts["context_length"] == 2048 and facts["dtype"] == "bfloat16"
    assert facts["has_chat_template"] and facts["end_of_turn"] == "<|im_end|>"
    assert facts["bytes"] == (folder / "model.safetensors").stat().st_size
    shapes = {shape["name"].rsplit(".", 1)[1]: (shape["in"], shape["out"]) for shape in facts["linear_shapes"]}
    assert shapes["down_proj"] == (128, 64) and shapes["k_proj"] == (64, 32) and len(facts["linear_shapes"]) == 14


def test_the_parameters_are_those_that_torch_counts(folder):
    from engine.models.loading import load_model

    model = load_model(folder)
    assert inspect(folder)["parameters"] == sum(value.numel() for value in model.parameters())


def test_the_starter_is_what_its_package_says(starter):
    facts = inspect(starter)
    assert facts["parameters"] == 134_515_008 and facts["licence"] == "apache-2.0"
    assert facts["end_of_turn"] == "<|im_end|>" and facts["context_length"] == 8192


def test_inspecting_imports_no_torch():
    code = "import sys; import engine.models.inspect; print({'torch', 'transformers'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "set()", done.stderr


def test_the_known_types_are_those_of_the_installed_library():
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    assert causal_types() == set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def test_a_folder_that_is_not_there_is_said(tmp_path):
    assert codes(tmp_path / "nowhere") == {"model_folder_missing"}


def test_an_empty_folder_names_everything_that_is_missing(tmp_path):
    assert codes(tmp_path) == {"model_no_config", "model_no_tokenizer", "model_no_safetensors"}


def test_a_folder_without_safetensors_is_refused(folder):
    (folder / "model.safetensors").unlink()
    assert codes(folder) == {"model_no_safetensors"}


def test_pickle_weights_are_refused_alone_and_beside_safetensors(folder):
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04")
    assert codes(folder) == {"model_pickle_weights"}
    (folder / "model.safetensors").unlink()
    assert codes(folder) == {"model_pickle_weights", "model_no_safetensors"}


def test_what_a_trainer_leaves_behind_is_no_reason_to_refuse(folder):
    for name in ("training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state.pth", "rng_state_0.pth"):
        (folder / name).write_bytes(b"x")
    assert inspect(folder)["num_layers"] == 2


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_a_folder_with_its_own_code_is_refused(folder, change_json, name):
    change_json(folder / name, auto_map={"AutoModelForCausalLM": "evil.Model"})
    assert codes(folder) == {"model_custom_code"}


def test_code_files_are_refused(folder):
    (folder / "modeling_evil.py").write_text("import os")
    assert codes(folder) == {"model_custom_code"}


def test_an_auto_map_deep_inside_is_found(folder, change_json):
    change_json(folder / "config.json", extra={"list": [{"auto_map": {"a": "b"}}]})
    assert codes(folder) == {"model_custom_code"}


@pytest.mark.parametrize("kind", ["vit", "no-such-thing", None, ["llama"], "__import__('os')"])
def test_a_type_that_is_not_installed_is_refused(folder, change_json, kind):
    change_json(folder / "config.json", model_type=kind)
    assert "model_unknown_type" in codes(folder)


def test_weights_that_are_quantised_already_are_refused(folder, change_json):
    change_json(folder / "config.json", quantization_config={"quant_method": "gptq"})
    assert codes(folder) == {"model_prequantised"}


@pytest.mark.parametrize(("key", "value"), [("num_hidden_layers", 10_000), ("vocab_size", 99), ("hidden_size", 4096)])
def test_a_configuration_that_does_not_fit_its_weights_is_refused(folder, change_json, key, value):
    change_json(folder / "config.json", **{key: value})
    assert codes(folder) == {"model_weights_do_not_fit"}


def test_absurd_numbers_are_refused(folder, change_json):
    change_json(folder / "config.json", intermediate_size=10**15)
    assert "model_config_out_of_bounds" in codes(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000, '{"a": 1'])
def test_a_broken_config_is_said(folder, text):
    (folder / "config.json").write_text(text)
    assert "model_json_broken" in codes(folder)


def test_a_link_is_not_followed(folder):
    os.rename(folder / "model.safetensors", folder.parent / "elsewhere")
    (folder / "model.safetensors").symlink_to(folder.parent / "elsewhere")
    assert "model_file_not_plain" in codes(folder)


def test_a_pipe_does_not_block(folder):
    (folder / "config.json").unlink()
    os.mkfifo(folder / "config.json")
    assert "model_file_not_plain" in codes(folder)


def test_an_index_cannot_name_files_elsewhere(folder):
    (folder / "model.safetensors").unlink()
    table = {"weight_map": {"a": "../../etc/passwd", "b": "/etc/passwd"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(table))
    assert codes(folder) == {"model_file_missing"}


def safetensors(header: bytes | dict, body: bytes = b"", length: int | None = None) -> bytes:
    data = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(data) if length is None else length) + data + body


ONE = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00" * 7,
        safetensors(b"{}", length=2**63),
        safetensors(b"{}", length=MAX_HEADER_BYTES + 1),
        safetensors(b"not json"),
        safetensors(b"[1]"),
        safetensors(b"{}"),
        safetensors(b"[" * 200_000 + b"]" * 200_000),
        safetensors({"__metadata__": {"a": "b"}}),
        safetensors({"a": ONE}, b"123"),
        safetensors({"a": ONE}, b"12345"),
        safetensors({"a": {**ONE, "dtype": "PICKLE"}}, b"1234"),
        safetensors({"a": {**ONE, "shape": [-1]}}, b"1234"),
        safetensors({"a": {**ONE, "shape": [2**62]}}, b"1234"),
        safetensors({"a": {**ONE, "shape": [2**40]}}, b"1234"),
        safetensors({"a": {**ONE, "shape": [True]}}, b"1234"),
        safetensors({"a": {**ONE, "shape": [1] * 9}}, b"1234"),
        safetensors({"a": {**ONE, "data_offsets": [4, 0]}}, b"1234"),
        safetensors({"a": {**ONE, "data_offsets": [0]}}, b"1234"),
        safetensors({"a": ONE, "b": ONE}, b"1234"),
        safetensors({"a": {**ONE, "data_offsets": [4, 8]}}, b"12345678"),
        safetensors({"a": "text"}, b"1234"),
        safetensors({"a": {}}, b"1234"),
    ],
)
def test_a_forged_header_is_refused_before_anything_is_allocated(tmp_path, content):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(ProblemError) as caught:
        tensors(path)
    assert caught.value.problems[0].code == "model_weights_broken"


def test_a_header_that_holds_is_read(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(safetensors({"b": {**ONE, "data_offsets": [4, 8]}, "a": ONE}, b"12345678"))
    assert [tensor.name for tensor in tensors(path)] == ["a", "b"]
