"""One base in memory serves all its adapters, and never lends the base an adapter's voice."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.models import serving
from engine.models.loading import load_adapter, load_model
from engine.models.serving import Sampling, Served

PROMPT = [{"role": "user", "content": "Say something."}]


def make_adapter(base: Path, folder: Path, *, seed: int, strength: float = 0.5, dtype: str = "float32") -> Path:
    """An adapter that changes every answer beyond doubt."""
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    model = get_peft_model(
        load_model(base, dtype="float32"), LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    )
    for name, value in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(value, std=strength)
    model.to(getattr(torch, dtype)).save_pretrained(str(folder))
    return folder


@pytest.fixture(scope="module")
def adapters(tiny_model, tmp_path_factory) -> list[Path]:
    root = tmp_path_factory.mktemp("adapters")
    return [make_adapter(tiny_model, root / str(seed), seed=seed) for seed in range(3)]


@pytest.fixture
def served(tiny_model) -> Served:
    return Served(tiny_model, quantization="none", dtype="float32")


def say(served: Served, adapter: Path | None, **named) -> list[int]:
    return served.generate(served.renderer.prompt(PROMPT), adapter=adapter, sampling=Sampling(max_tokens=12, **named))


def test_the_base_never_speaks_with_an_adapters_voice(served, adapters):
    base = say(served, None)
    alone = [say(Served(served_folder(served), quantization="none", dtype="float32"), one) for one in adapters]
    assert len({tuple(answer) for answer in [base, *alone]}) == 4
    for place in (0, None, 1, None, None, 2, 1, None, 0, 2, None):
        expected = base if place is None else alone[place]
        assert say(served, None if place is None else adapters[place]) == expected


def served_folder(served: Served) -> str:
    return served.tokenizer.name_or_path


def test_an_answer_is_that_of_plain_transformers(served, tiny_model):
    import torch

    model = load_model(tiny_model, dtype="float32")
    prompt = served.renderer.prompt(PROMPT)
    plain = model.generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        max_new_tokens=12,
        do_sample=False,
    )
    assert say(served, None) == plain[0, len(prompt) :].tolist()


def test_the_same_seed_draws_the_same_answer_and_another_seed_another(served, adapters):
    first = say(served, adapters[0], temperature=1.0, seed=7)
    assert say(served, adapters[0], temperature=1.0, seed=7) == first
    assert say(served, adapters[0], temperature=1.0, seed=8) != first


def test_an_adapter_keeps_the_format_it_was_stored_in(tiny_model, tmp_path):
    import torch

    for dtype in ("float32", "bfloat16"):
        folder = make_adapter(tiny_model, tmp_path / dtype, seed=1, dtype=dtype)
        model = load_adapter(load_model(tiny_model, dtype="bfloat16"), folder)
        kinds = {value.dtype for name, value in model.named_parameters() if "lora_" in name}
        assert kinds == {getattr(torch, dtype)}


def test_rarely_used_adapters_make_room(served, adapters, monkeypatch):
    monkeypatch.setattr(serving, "MAX_ADAPTERS", 2)
    first = say(served, adapters[0])
    base = say(served, None)
    for one in (adapters[1], adapters[2]):
        say(served, one)
    assert served.adapters == [str(adapters[1]), str(adapters[2])]
    assert say(served, None) == base
    assert say(served, adapters[0]) == first


def test_generation_stops_when_it_is_asked_to(served):
    tokens = served.generate(
        served.renderer.prompt(PROMPT), adapter=None, sampling=Sampling(max_tokens=50), stop=lambda: True
    )
    assert len(tokens) == 1


def test_the_turn_end_of_the_template_ends_an_answer_too(served, tiny_model, tmp_path, change_json):
    import shutil

    folder = tmp_path / "other-end"
    shutil.copytree(tiny_model, folder)
    change_json(folder / "generation_config.json", eos_token_id=0)
    assert Served(folder, quantization="none", dtype="float32").stop_ids == [0, 2]


def test_four_bits_and_eight_bits_load_and_serve(tiny_model, adapters):
    for quantization in ("nf4", "int8"):
        served = Served(tiny_model, quantization=quantization, dtype="float32")
        base = say(served, None)
        assert say(served, adapters[0]) != base and say(served, None) == base
