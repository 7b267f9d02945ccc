"""How LoRA's matrices start: each method gives what its paper says, and leaves the base as it is."""

from __future__ import annotations

import pytest
import torch

from engine.models.loading import load_model
from engine.specs.problem import ProblemError
from engine.tuners import TUNERS, starts
from engine.tuners.protocol import Given
from tests.tuners.making import rows_of, spec_of

IDS = torch.tensor([[30, 40, 50, 60, 70]])
RANK = 4


def prepared(model, form="none", **settings):
    spec = spec_of({"kind": "lora", "rank": RANK, **settings}, form).tuner
    rows = rows_of(model)
    given = Given("CAUSAL_LM", 4, rows.train, rows.tokenizer)
    base = load_model(model, quantization=form, dtype="float32")
    return TUNERS["lora"].prepare(base, spec, given)


def logits(model):
    model.eval()
    with torch.no_grad():
        return model(input_ids=IDS, use_cache=False).logits


def layer_of(model):
    return dict(starts.layers(model))["base_model.model.model.layers.0.self_attn.q_proj"]


@pytest.mark.parametrize("how", ["default", "gaussian", "pissa", "pissa_niter", "olora", "eva"])
def test_before_the_first_step_the_model_says_what_the_base_says(how, tiny_model):
    base = load_model(tiny_model, dtype="float32")
    kept = {name: weight.clone() for name, weight in base.state_dict().items()}
    model = prepared(tiny_model, initialisation=how)
    assert torch.allclose(logits(model), logits(base), atol=3e-6)
    for name, weight in model.get_base_model().state_dict().items():
        plain = name.replace(".base_layer", "")
        assert plain not in kept or torch.equal(weight, kept[plain]), "the base itself is not touched"


def test_pissa_takes_the_greatest_singular_values(tiny_model):
    layer = layer_of(prepared(tiny_model, initialisation="pissa"))
    taken = layer.scaling["default"] * layer.lora_B["default"].weight @ layer.lora_A["default"].weight
    weight = layer.get_base_layer().weight
    values = torch.linalg.svdvals(weight)
    assert torch.allclose(torch.linalg.svdvals(taken)[:RANK], values[:RANK], rtol=1e-4)
    assert torch.allclose(torch.linalg.svdvals(weight - taken)[0], values[RANK], rtol=1e-4), "the rest has the others"


def test_olora_starts_with_orthonormal_directions(tiny_model):
    layer = layer_of(prepared(tiny_model, initialisation="olora"))
    out = layer.lora_B["default"].weight
    assert torch.allclose(out.T @ out, torch.eye(RANK), atol=1e-5)
    directions, amounts = torch.linalg.qr(layer.get_base_layer().weight.float())
    assert torch.allclose(out, directions[:, :RANK], atol=1e-6)
    assert torch.allclose(layer.lora_A["default"].weight, amounts[:RANK], atol=1e-6)


def test_loftq_brings_the_quantised_base_nearer_to_the_plain_one(tiny_model):
    plain = load_model(tiny_model, dtype="float32").model.layers[0].self_attn.q_proj.weight
    layer = layer_of(prepared(tiny_model, "nf4", initialisation="loftq"))
    rounded = starts.plain_weight(layer)
    made_up = layer.scaling["default"] * layer.lora_B["default"].weight @ layer.lora_A["default"].weight
    lost = plain - rounded
    best = torch.linalg.svdvals(lost)[RANK:].square().sum().sqrt()
    assert torch.isclose((lost - made_up).norm(), best, rtol=1e-3), "as near as matrices of that rank can come"


def test_eva_looks_where_the_inputs_vary(tiny_model):
    model = prepared(tiny_model, initialisation="eva")
    name, layer = next(iter(starts.layers(model)))
    seen = []
    hook = layer.register_forward_hook(lambda _module, inputs, _out: seen.append(inputs[0].flatten(0, -2)))
    with torch.no_grad():
        for row in rows_of(tiny_model).train:
            model(input_ids=torch.tensor([row["input_ids"]]), use_cache=False)
    hook.remove()
    vectors = torch.cat(seen)
    into = layer.lora_A["default"].weight
    kept = (vectors @ into.T).square().sum() / vectors.square().sum()
    most = torch.linalg.svdvals(vectors)[:RANK].square().sum() / vectors.square().sum()
    assert torch.isclose(kept, most, rtol=1e-3), name
    assert not layer.lora_B["default"].weight.any()


def test_what_cannot_be_combined_is_refused():
    for settings, form, code in (
        ({"dora": True, "initialisation": "pissa"}, "none", "lora_dora_start"),
        ({"initialisation": "loftq"}, "none", "lora_loftq_needs_nf4"),
        ({"dora": True}, "int8", "lora_dora_int8"),
    ):
        with pytest.raises(ProblemError) as refused:
            spec_of({"kind": "lora", **settings}, form)
        assert [one.code for one in refused.value.problems] == [code]


def test_a_token_that_the_model_does_not_have_is_named(tiny_model):
    with pytest.raises(ProblemError) as refused:
        prepared(tiny_model, train_tokens="<repo_name> <|thought|>")
    assert refused.value.problems[0].code == "tuner_token_unknown"
    assert refused.value.problems[0].values["given"] == "<|thought|>"


def test_only_the_named_tokens_move(tiny_model, tmp_path):
    from tests.tuners.making import make

    spec = spec_of({"kind": "lora", "rank": RANK, "train_tokens": "<repo_name>"}, learning_rate=0.1)
    trainer = make(tiny_model, spec, tmp_path)
    place = rows_of(tiny_model).tokenizer.convert_tokens_to_ids("<repo_name>")
    before = trainer.model.get_input_embeddings().weight.clone()
    trainer.train()
    moved = (trainer.model.get_input_embeddings().weight != before).any(dim=1).nonzero().flatten().tolist()
    assert moved == [place], "the output layer shares the embeddings, so that even an unseen token learns"


def test_a_tuner_that_does_not_fit_the_model_says_so(tiny_model):
    spec = spec_of({"kind": "boft", "block_size": 7}).tuner
    with pytest.raises(ProblemError) as refused:
        TUNERS["boft"].prepare(load_model(tiny_model, dtype="float32"), spec, Given("CAUSAL_LM", 4, None, None))
    assert refused.value.problems[0].code == "tuner_does_not_fit"


def test_a_choice_that_moves_nothing_is_refused(tiny_model):
    spec = spec_of({"kind": "freeze", "last_layers": 0}).tuner
    with pytest.raises(ProblemError) as refused:
        TUNERS["freeze"].prepare(load_model(tiny_model, dtype="float32"), spec, None)
    assert refused.value.problems[0].code == "tuner_moves_nothing"
