"""An adapter of any kind is exported as it is; merged only where it can be."""

from __future__ import annotations

import json

import pytest
import torch

from engine.exporters import EXPORTERS
from engine.models.loading import load_model
from engine.models.sources import Source
from engine.tuners import TUNERS
from engine.tuners.protocol import Given
from tests.tuners.making import rows_of, spec_of

KINDS = [kind for kind, tuner in TUNERS.items() if tuner.is_adapter]
IDS = torch.tensor([[30, 40, 50, 60, 70, 80, 31]])


@pytest.fixture(scope="module", params=KINDS)
def made(request, tiny_model, tmp_path_factory):
    kind, rows = request.param, rows_of(tiny_model)
    torch.manual_seed(5)
    model = TUNERS[kind].prepare(
        load_model(tiny_model, dtype="float32"),
        spec_of({"kind": kind}).tuner,
        Given("CAUSAL_LM", 4, rows.train, rows.tokenizer),
    )
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight += 0.05 * torch.randn_like(weight)
    folder = tmp_path_factory.mktemp("adapter")
    model.save_pretrained(str(folder))
    return kind, folder


def says(model):
    with torch.inference_mode():
        return model.eval()(input_ids=IDS, use_cache=False).logits[:, -IDS.shape[1] :].float()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_stranger_gets_what_the_chat_has(made, dtype, tiny_model, tmp_path):
    _, folder = made
    parts = Source(tiny_model, "org/tiny", "none", dtype, folder)
    EXPORTERS["adapter"].write(parts, tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "org/tiny" and config["inference_mode"] is True
    for path in tmp_path.iterdir():
        assert str(tiny_model).encode() not in path.read_bytes(), "no trace of this machine"
    theirs, ours = says(EXPORTERS["adapter"].load_back(parts, tmp_path)), says(parts.attach(parts.chat_base()))
    assert (theirs - ours).abs().max() <= (0.0 if dtype == "float32" else 0.02)


def test_merged_it_stands_alone_where_it_can(made, tiny_model, tmp_path):
    kind, folder = made
    if TUNERS[kind].merges:
        parts = Source(tiny_model, "org/tiny", "none", "float32", folder, written="bfloat16", arithmetic="float32")
        EXPORTERS["merged"].write(parts, tmp_path)
        whole, chat = says(EXPORTERS["merged"].load_back(parts, tmp_path)), says(parts.attach(parts.chat_base()))
        assert (whole - chat).abs().max() <= 0.03, "but for the rounding to 16 bits"
