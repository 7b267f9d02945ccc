"""The export forms, without a studio around them."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

from engine.exporters import EXPORTERS
from engine.exporters.limits import LIMITS
from engine.exporters.merged import merge
from engine.models.loading import dequantised, load_adapter, load_model
from engine.models.sources import Source


@pytest.fixture(scope="module")
def adapter(tiny_model: Path, tmp_path_factory) -> Path:
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(3)
    settings = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(load_model(tiny_model, dtype="float32"), settings)
    for name, value in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(value, std=0.1)
    folder = tmp_path_factory.mktemp("adapter")
    model.save_pretrained(str(folder))
    return folder


def source(tiny_model: Path, adapter: Path | None, **named) -> Source:
    return Source(tiny_model, "org/tiny", "none", "float32", adapter, **named)


@pytest.mark.parametrize("kind", EXPORTERS)
def test_every_form_has_its_name_and_lines_that_are_python(kind, tiny_model):
    exporter = EXPORTERS[kind]
    assert exporter.kind == kind
    code = "\n".join(exporter.lines(source(tiny_model, None), 'it\'s a "name"\n'))
    assert "from_pretrained" in code and ast.parse(code)


def test_the_lines_of_an_adapter_load_the_base_as_it_was_trained_on(tiny_model, adapter, tmp_path):
    import torch

    parts = Source(tiny_model, "mine", "nf4", "float32", adapter)
    EXPORTERS["adapter"].write(parts, tmp_path)
    parts.write_texts(tmp_path, stop_ids=[2])
    lines = EXPORTERS["adapter"].lines(parts, str(tmp_path))
    code = "\n".join(lines)
    assert "# The base is 'mine'." in lines and "from_pretrained('mine'" not in code
    known = {}
    exec(code.replace("'folder/of/the/base'", repr(str(tiny_model))), known)
    ids = torch.tensor([[1, 5, 9, 200, 7]])
    with torch.inference_mode():
        theirs = known["model"].eval()(ids).logits
        assert torch.equal(theirs, parts.attach(parts.chat_base())(ids).logits)


def test_a_base_that_the_hub_has_is_loaded_from_there_in_its_revision(tiny_model, adapter):
    parts = Source(tiny_model, "org/tiny", "none", "bfloat16", adapter, base_id="org/tiny", revision="c" * 40)
    code = "\n".join(EXPORTERS["adapter"].lines(parts, "export-1"))
    assert "base_model = 'org/tiny'" in code and "folder" not in code and "BitsAndBytes" not in code
    assert f"base_model, revision='{'c' * 40}', dtype='bfloat16'" in code
    assert json.loads(parts.adapter_files()["adapter_config.json"])["revision"] == "c" * 40


def test_every_base_has_stated_limits():
    assert set(LIMITS) == {"trained", "original"}
    assert all(0.85 <= one.min_agreement < 1 and 0 < one.max_kl <= 0.25 for one in LIMITS.values())


def test_merging_in_float32_is_never_worse_than_peft_in_bfloat16(tiny_model, adapter):
    import torch

    exact = load_adapter(load_model(tiny_model, dtype="float32"), adapter).merge_and_unload()
    ours = merge(load_adapter(load_model(tiny_model), adapter))
    theirs = load_adapter(load_model(tiny_model), adapter).merge_and_unload()
    errors = []
    for merged in (ours, theirs):
        pairs = zip(exact.parameters(), merged.parameters(), strict=True)
        errors.append(sum(float((left - right.float()).abs().sum()) for left, right in pairs))
    assert all(value.dtype == torch.bfloat16 for value in ours.parameters())
    assert errors[0] <= errors[1]


@pytest.mark.parametrize("quantization", ["nf4", "int8"])
def test_a_dequantised_base_is_plain_and_close_to_the_quantised_one(tiny_model, quantization):
    import torch

    ids = torch.tensor([[1, 5, 9, 200, 7]])
    plain = dequantised(tiny_model, quantization=quantization)
    with torch.inference_mode():
        packed = load_model(tiny_model, quantization=quantization, dtype="float32")(ids).logits
        unpacked = plain.float()(ids).logits
    assert not hasattr(plain.config, "quantization_config")
    assert float((packed - unpacked).abs().max()) < 0.05 * float(packed.abs().max())


def test_a_merged_export_loads_elsewhere_without_peft(tiny_model, adapter, tmp_path):
    import torch
    from transformers import AutoModelForCausalLM

    parts = source(tiny_model, adapter)
    EXPORTERS["merged"].write(parts, tmp_path)
    parts.write_texts(tmp_path, stop_ids=[2])
    assert "base_model" not in json.dumps(json.loads((tmp_path / "config.json").read_text()))
    ids = torch.tensor([[1, 5, 9, 200, 7]])
    with torch.inference_mode():
        ours = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)(ids).logits
        chat = parts.attach(load_model(tiny_model, dtype="float32"))(ids).logits
    assert torch.equal(ours.argmax(-1), chat.argmax(-1))


def test_an_adapter_export_names_its_base_and_no_path(tiny_model, adapter, tmp_path):
    parts = source(tiny_model, adapter)
    EXPORTERS["adapter"].write(parts, tmp_path)
    parts.write_texts(tmp_path, stop_ids=[2, 7])
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "org/tiny"
    assert json.loads((tmp_path / "generation_config.json").read_text())["eos_token_id"] == [2, 7]
    for path in tmp_path.iterdir():
        assert str(tiny_model).encode() not in path.read_bytes()
    import torch

    ids = torch.tensor([[1, 5, 9]])
    with torch.inference_mode():
        back = EXPORTERS["adapter"].load_back(parts, tmp_path)(ids).logits
        assert torch.equal(back, parts.attach(parts.chat_base())(ids).logits)


def test_a_fully_trained_model_is_written_in_sixteen_bits(tiny_model, tmp_path):
    import torch
    from safetensors.torch import load_file

    EXPORTERS["merged"].write(source(tiny_model, None), tmp_path)
    kinds = {value.dtype for value in load_file(tmp_path / "model.safetensors").values()}
    assert kinds == {torch.bfloat16}
