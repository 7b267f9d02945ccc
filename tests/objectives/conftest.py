"""A model so small that an objective learns its task in a second."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def small_model(starter: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of two layers that knows 1024 of the tokens of the starter's tokenizer, with random weights."""
    import torch
    from transformers import AutoTokenizer, GenerationConfig, LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("models") / "small"
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    ids = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=1024, num_key_value_heads=2, **sizes, **ids))
    model.generation_config = GenerationConfig(**ids)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(starter).save_pretrained(folder)
    return folder


@pytest.fixture(autouse=True)
def one_thread():
    """Threads that wait for each other make such small steps ten times slower where others use the machine."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def small_renderer(small_model: Path):
    from engine.data.render import Renderer
    from engine.models.loading import load_tokenizer

    return Renderer(load_tokenizer(small_model))
