"""Each tuner moves exactly what it says; what it saves behaves as it did in training, merges, and is gone on with."""

from __future__ import annotations

import pytest
import torch
from transformers import TrainerCallback

from engine.exporters.merged import merge
from engine.models.inspect import inspect
from engine.models.loading import dequantised, keep_4_bit_weights, load_adapter, load_model
from engine.runtime.beginning import Beginning, check_resumed
from engine.runtime.child import Refused
from engine.tuners import TUNERS
from engine.tuners.protocol import Phased
from tests.tuners.cases import CASES, Case
from tests.tuners.making import make, spec_of

STEPS = 4
SAME, ROUNDED, STEP, INT8 = 0.0, 5e-6, 2e-3, 2e-2
"""Largest differences of logits of about 0.5: none; sums in another order; 8-bit activations that such sums take to the
next step of their rounding; activations rounded to 8 bits on one side."""
IDS = torch.tensor([[30, 40, 50, 60, 70, 80, 31]])
ON_PLAIN = [
    pytest.param(case, marks=[pytest.mark.slow] if case.variant else [], id=case.name)
    for case in CASES
    if "none" in case.forms
]
ON_QUANTISED = [(case, form) for case in CASES for form in case.forms if form != "none"]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("accelerate.utils.memory.gc.collect", lambda: 0)  # half a second at the end of each training
        yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def facts(tiny_model):
    return inspect(tiny_model)


class Trained:
    """A tuner's trainer after its last step, and what its weights were before the first."""

    def __init__(self, model, case: Case, folder, form: str = "none") -> None:
        self.case, self.model, self.folder, self.form = case, model, folder, form
        self.spec = spec_of(case.tuner, form, learning_rate=case.rate)
        self.trainer = make(model, self.spec, folder, total=STEPS)
        weights = dict(self.trainer.model.named_parameters())
        self.moving = {name: weight.numel() for name, weight in weights.items() if weight.requires_grad}
        self.before = {name: weight.detach().clone() for name, weight in weights.items()}
        self.trainer.train()
        self.checkpoint = folder / f"checkpoint-{STEPS}"

    def changed(self) -> set[str]:
        after = self.trainer.model.named_parameters()
        return {name for name, weight in after if not torch.equal(weight.data, self.before[name])}

    def resting(self) -> set[str]:
        return {name for name in self.moving if any(part in name for part in self.case.rests)}

    def says(self) -> torch.Tensor:
        return logits(self.trainer.model)


def logits(model) -> torch.Tensor:
    model.eval()
    keep_4_bit_weights(model)
    with torch.no_grad():
        return model(input_ids=IDS, use_cache=False).logits[:, -IDS.shape[1] :]


def far(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).abs().max())


@pytest.fixture(scope="module", params=ON_PLAIN)
def trained(request, tiny_model, tmp_path_factory):
    return Trained(tiny_model, request.param, tmp_path_factory.mktemp("run"))


def test_it_moves_the_weights_that_it_says_and_no_others(trained, facts):
    case = trained.case
    assert sum(trained.moving.values()) == case.moves
    assert TUNERS[case.tuner["kind"]].trainable(trained.spec.tuner, facts) == case.moves
    assert all(not case.called or any(part in name for part in case.called) for name in trained.moving)
    assert trained.changed() | trained.resting() == set(trained.moving), "all else is as it was, to the last bit"


def test_what_it_saved_says_the_same_beside_a_fresh_base(trained, tiny_model):
    limit = SAME if trained.case.exact else ROUNDED
    plain = load_model(tiny_model, dtype="float32")
    assert far(logits(plain), trained.says()) > 1e-4, "something was learned"
    if TUNERS[trained.spec.tuner.kind].is_adapter:
        again = load_adapter(plain, trained.checkpoint)
        assert far(logits(again), trained.says()) <= limit
        with again.disable_adapter():
            assert far(logits(again), logits(load_model(tiny_model, dtype="float32"))) == SAME
    else:
        assert far(logits(load_model(trained.checkpoint, dtype="float32")), trained.says()) <= limit


def test_merged_it_says_the_same(trained, tiny_model):
    tuner = TUNERS[trained.spec.tuner.kind]
    if tuner.is_adapter and tuner.merges:
        whole = merge(load_adapter(load_model(tiny_model, dtype="float32"), trained.checkpoint))
        assert not hasattr(whole, "peft_config")
        assert far(logits(whole), trained.says()) <= ROUNDED


def test_resumed_it_ends_with_the_same_weights(trained, tiny_model, tmp_path):
    resumed = make(tiny_model, trained.spec, tmp_path, total=STEPS)
    checkpoint = trained.folder / "checkpoint-2"
    resumed.add_callback(Beginning(resumed, Quiet(), checkpoint, lambda phase: None))
    resumed.train(resume_from_checkpoint=str(checkpoint))
    ours, theirs = dict(resumed.model.named_parameters()), dict(trained.trainer.model.named_parameters())
    assert all(torch.equal(ours[name].data, theirs[name].data) for name in trained.moving)
    for path in trained.checkpoint.glob("*.safetensors"):
        assert path.read_bytes() == (tmp_path / trained.checkpoint.name / path.name).read_bytes()


def test_a_resumed_run_with_other_weights_is_refused(trained, tiny_model, tmp_path):
    if trained.case.name not in ("lora", "lora-pissa", "adalora", "p_tuning", "freeze"):
        return
    resumed = make(tiny_model, trained.spec, tmp_path, total=STEPS)
    checkpoint = trained.folder / "checkpoint-2"
    resumed.take_up(checkpoint)
    resumed.create_optimizer_and_scheduler(STEPS)
    resumed.lr_scheduler.last_epoch = 2
    moved = next(weight for weight in resumed.model.parameters() if weight.requires_grad)
    moved.data += 1e-3
    with pytest.raises(Refused) as refused:
        check_resumed(resumed, checkpoint, 2)
    assert "weights" in refused.value.values["what"]


@pytest.mark.slow
@pytest.mark.parametrize(("case", "form"), ON_QUANTISED, ids=lambda one: getattr(one, "name", one))
def test_on_a_quantised_base_it_moves_the_same_weights_and_merges_into_the_dequantised_one(
    case, form, tiny_model, tmp_path
):
    _check_quantised(case, form, tiny_model, tmp_path)


@pytest.mark.parametrize("name", ["lora", "lora-dora", "lora-eva", "lora-loftq", "adalora", "ia3", "prefix", "oft"])
def test_on_an_nf4_base_it_moves_the_same_weights_and_merges_into_the_dequantised_one(name, tiny_model, tmp_path):
    _check_quantised(next(case for case in CASES if case.name == name), "nf4", tiny_model, tmp_path)


def _check_quantised(case, form, tiny_model, folder):
    trained = Trained(tiny_model, case, folder, form)
    assert sum(trained.moving.values()) == case.moves
    assert trained.changed() | trained.resting() == set(trained.moving)
    again = load_adapter(load_model(tiny_model, quantization=form, dtype="float32"), trained.checkpoint)
    rounded = STEP if form == "int8" else ROUNDED
    assert far(logits(again), trained.says()) <= (SAME if case.exact else rounded)
    if TUNERS[case.tuner["kind"]].merges:
        base = dequantised(tiny_model, quantization=form, dtype="float32")
        assert far(logits(merge(load_adapter(base, trained.checkpoint))), trained.says()) <= max(
            ROUNDED, INT8 if form == "int8" else 0
        )


@pytest.mark.parametrize("kind", [kind for kind, tuner in TUNERS.items() if not isinstance(tuner, Phased)])
def test_a_new_head_is_trained_with_it(kind, tiny_model):
    from engine.tuners.protocol import Given

    spec = spec_of({"kind": kind, **({"targets": "attention"} if kind == "oft" else {})}).tuner
    given = Given("SEQ_CLS", STEPS, None, None)
    model = TUNERS[kind].prepare(load_model(tiny_model, dtype="float32", labels=("a", "b")), spec, given)
    model.config.pad_token_id = 2
    model(input_ids=IDS, labels=torch.tensor([1])).loss.backward()
    heads = [weight for name, weight in model.named_parameters() if "score" in name and weight.requires_grad]
    assert [tuple(one.shape) for one in heads] == [(2, 64)]
    assert heads[0].grad is not None and heads[0].grad.abs().sum() > 0


def test_every_tuner_has_a_case():
    assert {case.tuner["kind"] for case in CASES} == {k for k, one in TUNERS.items() if not isinstance(one, Phased)}
    for case in CASES:
        refused = set(TUNERS[case.tuner["kind"]].refuses)
        assert not refused & set(case.forms)


class Quiet(TrainerCallback):
    """A watch without a store."""

    tokens = 0.0
