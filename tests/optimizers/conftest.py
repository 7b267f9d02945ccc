"""A model as small as an optimiser's test needs: most of the tiny one is its vocabulary."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def mini_model(tiny_model, tmp_path_factory):
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("mini")
    torch.manual_seed(0)
    config = LlamaConfig.from_pretrained(tiny_model, vocab_size=96)
    LlamaForCausalLM(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(folder)
    return folder
