"""Adapters of every kind take turns beside one base, and none speaks with another's voice."""

from __future__ import annotations

import pytest
import torch

from engine.models.loading import load_adapter, load_model
from engine.models.serving import Served
from engine.tuners import TUNERS
from engine.tuners.protocol import Given
from tests.models.test_serving import PROMPT, say
from tests.tuners.making import rows_of, spec_of

KINDS = [kind for kind, tuner in TUNERS.items() if tuner.is_adapter]
SETTINGS = {"vera": {"rank": 8}, "lora": {"rank": 4}, "prompt": {"num_virtual_tokens": 4}}


@pytest.fixture(scope="module")
def adapters(tiny_model, tmp_path_factory):
    """An adapter of each kind, its weights shaken so that every answer changes beyond doubt."""
    root, rows, made = tmp_path_factory.mktemp("kinds"), rows_of(tiny_model), {}
    for kind in KINDS:
        torch.manual_seed(5)
        spec = spec_of({"kind": kind, **SETTINGS.get(kind, {})}).tuner
        model = TUNERS[kind].prepare(
            load_model(tiny_model, dtype="float32"), spec, Given("CAUSAL_LM", 4, rows.train, rows.tokenizer)
        )
        with torch.no_grad():
            for weight in model.parameters():
                if weight.requires_grad:
                    weight += 0.5 * torch.randn_like(weight)
        model.save_pretrained(str(root / kind))
        made[kind] = root / kind
    return made


def logits_of(served, adapter):
    prompt = torch.tensor([served.renderer.prompt(PROMPT)])
    with served.speaking(adapter) as model, torch.inference_mode():
        return model(input_ids=prompt, use_cache=False).logits[:, -1]


def test_each_kind_speaks_as_it_does_alone_whoever_spoke_before(tiny_model, adapters):
    served = Served(tiny_model, quantization="none", dtype="float32")
    base = logits_of(served, None)
    alone = {}
    for kind, folder in adapters.items():
        model = load_adapter(load_model(tiny_model, dtype="float32"), folder)
        with torch.inference_mode():
            prompt = torch.tensor([served.renderer.prompt(PROMPT)])
            alone[kind] = model(input_ids=prompt, use_cache=False).logits[:, -1]
        assert (alone[kind] - base).abs().max() > 1e-3, kind
    order = [*KINDS, *reversed(KINDS), "lora", "prefix", "lora"]
    for kind in order:
        assert torch.equal(logits_of(served, adapters[kind]), alone[kind]), kind
        assert torch.equal(logits_of(served, None), base), f"the base after {kind}"


@pytest.mark.parametrize("quantization", ["none", pytest.param("nf4", marks=pytest.mark.slow)])
def test_each_kind_generates_beside_a_16_bit_base(tiny_model, adapters, quantization):
    served = Served(tiny_model, quantization=quantization, dtype="bfloat16")
    base = say(served, None)
    for kind, folder in adapters.items():
        if quantization in TUNERS[kind].refuses:
            continue
        answer = say(served, folder)
        assert 1 <= len(answer) <= 12, kind
        assert say(served, None) == base, f"the base after {kind}"


def test_several_adapters_of_lora_stay_in_memory_and_one_of_another_kind_stands_alone(tiny_model, adapters, tmp_path):
    import shutil

    other = shutil.copytree(adapters["lora"], tmp_path / "other")
    served = Served(tiny_model, quantization="none", dtype="float32")
    for folder in (adapters["lora"], other):
        logits_of(served, folder)
    assert served.adapters == [str(adapters["lora"]), str(other)]
    logits_of(served, adapters["ia3"])
    assert served.adapters == [str(adapters["ia3"])]
