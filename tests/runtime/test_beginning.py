"""Before step 1: the trial on the longest rows leaves nothing behind, and a resume that is not exact is refused."""

from __future__ import annotations

import math
import random
import signal

import numpy
import pytest
import torch

from engine.data.render import Renderer
from engine.models.loading import keep_4_bit_weights, load_model, load_tokenizer
from engine.runtime import beginning, carried
from engine.runtime.beginning import Beginning, check_resumed, longest, try_longest
from engine.runtime.building import Frame, Rows, build
from engine.runtime.child import NonFinite, Refused
from engine.runtime.device import Device
from engine.runtime.start import Start
from engine.runtime.watching import Watch
from engine.specs.cadence import Cadence
from engine.specs.job import parse
from engine.tuners import TUNERS
from engine.tuners.protocol import Given
from storage import metrics
from storage.jobs import Claim

SPEC = parse(
    {
        "model": {"dtype": "float32"},
        "data": {"dataset": "rows"},
        "objective": {"kind": "sft"},
        "tuner": {"kind": "lora", "rank": 4, "dropout": 0.5},
        "training": {
            "learning_rate": 1e-2,
            "batch_size": 2,
            "gradient_accumulation": 2,
            "max_steps": 4,
            "precision": "fp32",
        },
    }
)
LENGTHS = (5, 40, 7, 30, 6, 8, 9, 10, 11)


class Looked(Exception):
    """What was to be seen was seen."""


class Quiet:
    """A watch without a store."""

    tokens = 0.0


def make_trainer(tiny_model, folder, save=lambda step, write: None, steps=4):
    from datasets import Dataset
    from transformers import TrainerCallback

    torch.manual_seed(3)
    begin = Start(tiny_model, None, "none", "float32", True, "language")
    model = TUNERS["lora"].prepare(
        load_model(tiny_model, dtype="float32"), SPEC.tuner, Given("CAUSAL_LM", steps, None, None)
    )
    tokenizer = load_tokenizer(tiny_model)
    data = Dataset.from_list(
        [{"input_ids": list(range(10, 10 + n)), "labels": list(range(10, 10 + n))} for n in LENGTHS]
    )
    rows = Rows(tokenizer, Renderer(tokenizer), tiny_model, data, None, [], [], {}, Cadence(steps, None, 2))
    frame = Frame(SPEC, Device("cpu", False), begin, folder)
    return build(frame, model=model, rows=rows, save=save, watch=TrainerCallback(), measure_start=False)


@pytest.fixture(scope="module")
def saved(tiny_model, tmp_path_factory):
    """A checkpoint after step 2 of a run without a trial, and the weights and losses of its end."""
    folder = tmp_path_factory.mktemp("run")

    def save(step, write):
        (folder / f"checkpoint-{step}").mkdir()
        write(folder / f"checkpoint-{step}")

    trainer = make_trainer(tiny_model, folder, save)
    trainer.train()
    return folder / "checkpoint-2", *end_of(trainer)


def end_of(trainer):
    weights = [weight.detach().clone() for weight in trainer.model.parameters() if weight.requires_grad]
    return weights, [
        (one["step"], one["loss"], one["num_tokens"]) for one in trainer.state.log_history if "loss" in one
    ]


def test_the_longest_rows_are_found_in_any_columns():
    from datasets import Dataset

    data = Dataset.from_list([{"a": [1], "b": [1, 2]}, {"a": [1] * 9, "b": []}, {"a": [], "b": []}])
    assert longest(data, 2) == [1, 0]
    assert longest(data.select([2, 1]), 1) == [1], "places in the very dataset"


def test_a_run_with_the_trial_is_the_run_without_it(saved, tiny_model, tmp_path, monkeypatch):
    _, weights, losses = saved
    tried = []
    real = beginning.try_longest
    monkeypatch.setattr(beginning, "try_longest", lambda one: (tried.append(one), real(one)))
    monkeypatch.setattr(beginning, "is_ample", lambda *_: False)
    trainer = make_trainer(tiny_model, tmp_path)
    phases = []
    trainer.add_callback(Beginning(trainer, Quiet(), None, phases.append))
    trainer.train()
    ours, our_losses = end_of(trainer)
    assert tried == [trainer] and phases == ["trying", "training"]
    assert our_losses == losses
    assert all(one.equal(other) for one, other in zip(ours, weights, strict=True))


def test_the_memory_is_not_tried_where_it_is_ample(tiny_model, tmp_path, monkeypatch):
    trainer = make_trainer(tiny_model, tmp_path)
    assert beginning.is_ample(trainer, 2**40) and not beginning.is_ample(trainer, 2**20)
    monkeypatch.setattr(beginning, "try_longest", lambda _: pytest.fail("tried"))
    monkeypatch.setattr(beginning, "is_ample", lambda *_: True)
    phases = []
    trainer.add_callback(Beginning(trainer, Quiet(), None, phases.append))
    trainer.train()
    assert phases == ["training"]


def test_the_trial_goes_through_the_longest_rows_and_leaves_no_trace(saved, tiny_model, tmp_path, monkeypatch):
    trainer = make_trainer(tiny_model, tmp_path)
    seen = []

    class Look(Beginning):
        def on_train_begin(self, args, state, control, **_):
            before = random.getstate(), numpy.random.get_state()[1].tolist(), torch.get_rng_state()
            real = trainer.training_step
            monkeypatch.setattr(
                trainer, "training_step", lambda *a: (seen.append(a[1]["input_ids"].shape), real(*a))[1]
            )
            try_longest(trainer)
            monkeypatch.setattr(trainer, "training_step", real)
            after = random.getstate(), numpy.random.get_state()[1].tolist(), torch.get_rng_state()
            assert before[:2] == after[:2] and before[2].equal(after[2])
            assert all(weight.grad is None for weight in trainer.model.parameters())
            assert carried.carried(trainer) == {
                "loss": 0.0,
                "last_logged": 0,
                "tokens": 0,
                "metrics": {},
                "batch_size": 2,
            }
            raise Looked

    trainer.add_callback(Look(trainer, Quiet(), None, lambda _: None))
    with pytest.raises(Looked):
        trainer.train()
    assert seen == [(1, 70)], "both rows in one sequence"


def test_memory_that_is_not_enough_shows_in_the_trial(tiny_model, tmp_path, monkeypatch):
    trainer = make_trainer(tiny_model, tmp_path)

    def no_memory(*_):
        raise MemoryError

    phases = []
    monkeypatch.setattr(beginning, "is_ample", lambda *_: False)
    monkeypatch.setattr(trainer, "training_step", no_memory)
    trainer.add_callback(Beginning(trainer, Quiet(), None, phases.append))
    with pytest.raises(MemoryError):
        trainer.train()
    assert phases == ["trying"] and trainer.state.global_step == 0


def test_a_resume_ends_where_the_whole_run_ended(saved, tiny_model, tmp_path):
    folder, weights, losses = saved
    trainer, watch = make_trainer(tiny_model, tmp_path), Quiet()
    trainer.add_callback(Beginning(trainer, watch, folder, lambda _: None))
    trainer.train(resume_from_checkpoint=str(folder))
    ours, our_losses = end_of(trainer)
    assert our_losses == losses, "the sums of the tokens go on as well"
    assert watch.tokens == losses[1][2]
    assert all(one.equal(other) for one, other in zip(ours, weights, strict=True))


def half(trainer):
    next(weight for weight in trainer.model.parameters() if weight.requires_grad).data.mul_(0.5)


def bfloat(trainer):
    for weight in trainer.model.parameters():
        if weight.requires_grad:
            weight.data = weight.data.bfloat16()


def no_optimizer(trainer):
    for state in trainer.optimizer.state.values():
        state["step"].fill_(1)


def other_rate(trainer):
    trainer.optimizer.param_groups[0]["lr"] *= 2


def other_place(trainer):
    trainer.state.epoch += 0.2


@pytest.mark.parametrize(
    ("spoil", "what"),
    [(half, "weights"), (bfloat, "dtype"), (no_optimizer, "optimizer"), (other_rate, "schedule"), (other_place, "position")],
)  # fmt: skip
def test_a_resume_that_is_not_where_it_stopped_is_refused(saved, tiny_model, tmp_path, spoil, what):
    folder, _, _ = saved
    trainer = make_trainer(tiny_model, tmp_path)

    class Look(Beginning):
        def on_train_begin(self, args, state, control, **_):
            check_resumed(trainer, folder, 2)
            spoil(trainer)
            with pytest.raises(Refused) as refused:
                check_resumed(trainer, folder, 2)
            assert refused.value.reason == "resume_differs" and what in refused.value.values["what"]
            raise Looked

    trainer.add_callback(Look(trainer, Quiet(), folder, lambda _: None))
    with pytest.raises(Looked):
        trainer.train(resume_from_checkpoint=str(folder))


def test_an_evaluation_leaves_4_bit_weights_as_they_are(tiny_model):
    import bitsandbytes

    model = load_model(tiny_model, quantization="nf4", dtype="bfloat16")
    layers = [one for one in model.modules() if isinstance(one, bitsandbytes.nn.Linear4bit)]
    for layer in layers:
        layer.support_avx512bf16_for_cpu = True  # as on a processor with bfloat16 products
    keep_4_bit_weights(model)
    before = [layer.weight.data.clone() for layer in layers]
    with torch.no_grad():
        model(input_ids=torch.arange(8)[None])
    assert layers and not any(getattr(layer.weight.quant_state, "packing_format_for_cpu", False) for layer in layers)
    assert all(layer.weight.data.equal(kept) for layer, kept in zip(layers, before, strict=True))


class Points:
    """A reporter that keeps what it is given."""

    def __init__(self):
        self.points = []

    def put(self, points):
        self.points += points


@pytest.fixture
def handler():
    """The watch takes SIGTERM; here the tests get it back."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def test_a_loss_that_is_no_number_leaves_a_gap_in_the_chart_and_ends_the_run(studio, handler):
    rows = studio.claim_job("train", {})
    claim = Claim(rows[0], 1, rows[1])
    reporter = Points()
    watch = Watch(reporter, claim=claim, device="cpu", total=9)
    state = type("State", (), {"global_step": 4})()
    with pytest.raises(NonFinite) as stopped:
        watch.on_log(None, state, None, logs={"loss": math.nan, "grad_norm": 1.0})
    assert (stopped.value.step, stopped.value.name) == (4, "loss")
    with studio.store.write() as session:
        metrics.append(session, claim, [one for one in reporter.points if one.name in ("loss", "grad_norm")])
    with studio.store.read() as session:
        assert metrics.series(session, rows[0]) == {"grad_norm": [(4, 1.0)], "loss": [(4, None)]}
