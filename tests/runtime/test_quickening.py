"""Compiled layers learn what plain ones learn; what is not to be had here is refused before anything is loaded."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from engine.models.loading import load_model
from engine.runtime import quickening
from engine.runtime.beginning import Beginning
from engine.runtime.device import Device
from engine.runtime.quickening import check, compile_layers, use_liger
from engine.runtime.start import Start, load
from engine.specs.job import parse
from engine.specs.problem import ProblemError
from tests.runtime import test_beginning as beginnings

CPU, GPU = Device("cpu", False), Device("cuda", True)


def spec_with(devices="auto", **training):
    return parse(
        {
            "model": {"dtype": "float32"},
            "data": {"dataset": "rows"},
            "objective": {"kind": "sft"},
            "tuner": {"kind": "lora", "rank": 4},
            "training": {**beginnings.SPEC.training.model_dump(), **training},
            "resources": {"devices": devices},
        }
    )


def refused(spec, device):
    with pytest.raises(ProblemError) as caught:
        check(spec, device)
    return [(one.code, one.where.field) for one in caught.value.problems]


@pytest.fixture
def own_code(tmp_path, monkeypatch):
    """Nothing compiled before is found."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "code"))
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def trained(tiny_model, folder, spec, monkeypatch, resume=None):
    """A trainer after its last step, of which the checkpoints lie in the folder."""
    folder.mkdir()

    def save(step, write):
        (folder / f"checkpoint-{step}").mkdir()
        write(folder / f"checkpoint-{step}")

    monkeypatch.setattr(beginnings, "SPEC", spec)
    made = beginnings.make_trainer(tiny_model, folder, save)
    if resume is not None:
        made.add_callback(Beginning(made, beginnings.Quiet(), resume, lambda _: None))
    made.train(resume_from_checkpoint=str(resume) if resume else None)
    return made


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_compiled_layers_learn_and_save_what_plain_ones_do_and_go_on_from_it(
    tiny_model, tmp_path, monkeypatch, own_code
):
    plain, compiled = (spec_with(compile=wanted) for wanted in (False, True))
    before = trained(tiny_model, tmp_path / "plain", plain, monkeypatch)
    assert not torch._dynamo.utils.counters["stats"]
    after = trained(tiny_model, tmp_path / "compiled", compiled, monkeypatch)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    first = tmp_path / "compiled" / "checkpoint-2"
    again = trained(tiny_model, tmp_path / "again", compiled, monkeypatch, resume=first)
    files = [
        load_file(tmp_path / name / "checkpoint-4" / "adapter_model.safetensors") for name in ("plain", "compiled")
    ]
    assert files[0].keys() == files[1].keys()
    weights = beginnings.end_of(before)[0]
    assert any(one.abs().max() > 1e-3 for one in weights)
    for other in (after, again):
        torch.testing.assert_close(beginnings.end_of(other)[0], weights, atol=2e-4, rtol=1e-3)


def test_passes_without_gradients_go_without_the_compiled_code(tiny_model, monkeypatch):
    model = load_model(tiny_model, dtype="float32")
    calls = []

    def compile_in_place(self, **named):
        assert named == {"dynamic": True}
        self._compiled_call_impl = lambda *a, **k: (calls.append(self), self._call_impl(*a, **k))[1]

    monkeypatch.setattr(torch.nn.Module, "compile", compile_in_place)
    compile_layers(model)
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        model.generate(ids, max_new_tokens=2, do_sample=False)
    assert not calls
    model(input_ids=ids)
    assert calls == list(model.model.layers)


def test_a_model_without_named_layers_is_not_compiled(tiny_model):
    model = load_model(tiny_model, dtype="float32")
    model._no_split_modules = None
    with pytest.raises(ProblemError) as caught:
        compile_layers(model)
    assert caught.value.problems[0].code == "model_has_no_layers"


def test_a_machine_without_a_compiler_refuses_to_compile(own_code, monkeypatch):
    from torch._inductor import config

    check(spec_with(), CPU)
    monkeypatch.setattr(config.cpp, "cxx", ("no-such-compiler",))
    assert refused(spec_with(compile=True), CPU) == [("spec_cannot_compile", "training.compile")]


def test_the_kernels_of_liger_need_a_gpu_and_their_package(monkeypatch):
    asked = spec_with(kernels="liger")
    assert refused(asked, CPU) == [("spec_kernels_need_gpu", "training.kernels")]
    monkeypatch.setattr(quickening.importlib.util, "find_spec", lambda _: None)
    assert refused(asked, GPU) == [("spec_kernels_missing", "training.kernels")]
    monkeypatch.setattr(quickening.importlib.util, "find_spec", lambda name: name)
    check(asked, GPU)


def test_the_kernels_of_liger_with_the_cpu_are_refused_where_they_are_chosen():
    with pytest.raises(ProblemError) as caught:
        spec_with(kernels="liger", devices="cpu")
    assert [one.code for one in caught.value.problems] == ["spec_kernels_need_gpu"]


def test_the_kernels_of_liger_go_into_the_model_itself_and_leave_the_loss_alone(monkeypatch):
    told = []
    package, patch = ModuleType("liger_kernel.transformers"), ModuleType("liger_kernel.transformers.monkey_patch")
    package._apply_liger_kernel_to_instance = lambda **named: told.append(named)
    patch.MODEL_TYPE_TO_APPLY_LIGER_FN = {"llama": None}
    monkeypatch.setitem(sys.modules, "liger_kernel", ModuleType("liger_kernel"))
    monkeypatch.setitem(sys.modules, package.__name__, package)
    monkeypatch.setitem(sys.modules, patch.__name__, patch)
    base = SimpleNamespace(config=SimpleNamespace(model_type="llama"))
    use_liger(base)
    assert told == [{"model": base, "cross_entropy": False, "fused_linear_cross_entropy": False}]
    base.config.model_type = "unheard-of"
    with pytest.raises(ProblemError) as caught:
        use_liger(base)
    assert caught.value.problems[0].code == "model_has_no_kernels"


def test_the_kernels_go_into_the_base_before_the_tuner_wraps_it(tiny_model, monkeypatch):
    seen = []
    monkeypatch.setattr(quickening, "use_liger", lambda model: seen.append(type(model).__name__))
    spec = spec_with(kernels="liger")
    begin = Start(tiny_model, None, "none", "float32", True, "language")
    rows = SimpleNamespace(labels=(), steps=SimpleNamespace(total=4), train=None, tokenizer=None)
    assert type(load(begin, spec, CPU, rows)).__name__.startswith("PeftModel")
    assert seen == ["LlamaForCausalLM"]
