"""Every tuner with every objective: a trainer that goes on from a checkpoint ends as one that was never stopped."""

from __future__ import annotations

import pytest
import torch

from engine.data.render import Renderer
from engine.models.loading import load_tokenizer
from engine.runtime.beginning import Beginning
from engine.runtime.building import Frame, Rows, build
from engine.runtime.device import Device
from engine.runtime.start import Start, load
from engine.specs.cadence import Cadence
from engine.specs.job import parse
from engine.tuners import TUNERS
from tests.runtime.test_beginning import LENGTHS, Quiet

STEPS = 7
TUNING = {
    "full": ({"kind": "full"}, "none"),
    "lora": ({"kind": "lora", "rank": 4, "dropout": 0.3}, "none"),
    "qlora": ({"kind": "lora", "rank": 4, "dropout": 0.3}, "nf4"),
}
QUICK = {("qlora", "sft")}
LEFT_OUT = ("runtime", "per_second", "total_flos", "train_loss")


def sft_rows(first):
    return [{"input_ids": ids, "labels": ids} for ids in (list(range(first, first + n)) for n in LENGTHS)]


def packed_rows(first):
    from datasets import Dataset
    from trl.data_utils import pack_dataset

    return pack_dataset(Dataset.from_list(sft_rows(first)), seq_length=24, strategy="bfd").to_list()


def dpo_rows(first):
    return [
        {"prompt_ids": [first, 9, n], "chosen_ids": list(range(first, first + n)), "rejected_ids": [first + 2, n, 5]}
        for n in LENGTHS
    ]


ROWS = {"sft": sft_rows, "packed": packed_rows, "dpo": dpo_rows}


def make_trainer(base, folder, tuner, kind):
    """Two rows a pass and two passes a step; evaluations at every step, saves at every second."""
    from datasets import Dataset
    from transformers import TrainerCallback

    def save(step, write):
        (folder / f"checkpoint-{step}").mkdir()
        write(folder / f"checkpoint-{step}")

    chosen, quantization = TUNING[tuner]
    spec = parse(
        {
            "model": {"dtype": "float32", "quantization": quantization},
            "data": {"dataset": "rows", "packing": kind == "packed"},
            "objective": {"kind": "dpo" if kind == "dpo" else "sft"},
            "tuner": chosen,
            "training": {
                "learning_rate": 1e-2,
                "batch_size": 2,
                "gradient_accumulation": 2,
                "max_steps": STEPS,
                "precision": "fp32",
                "log_every_steps": 3,
                "early_stopping_patience": 99,
            },
        }
    )
    begin = Start(base, None, quantization, "float32", TUNERS[spec.tuner.kind].is_adapter, "language")
    tokenizer = load_tokenizer(base)
    train, evaluation = (Dataset.from_list(ROWS[kind](first)) for first in (10, 90))
    rows = Rows(tokenizer, Renderer(tokenizer), base, train, evaluation, [], [], {}, Cadence(STEPS, 1, 2))
    frame = Frame(spec, Device("cpu", False), begin, folder)
    model = load(begin, spec, frame.device, rows)
    return build(frame, model=model, rows=rows, save=save, watch=TrainerCallback(), measure_start=False)


def train(trainer, resume=None):
    """The trained weights, and every figure that was logged."""
    trainer.add_callback(Beginning(trainer, Quiet(), resume, lambda _: None))
    trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    weights = [weight.detach().clone() for weight in trainer.model.parameters() if weight.requires_grad]
    logged = [
        {name: value for name, value in one.items() if not any(part in name for part in LEFT_OUT)}
        for one in trainer.state.log_history
    ]
    return weights, logged


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def cases():
    for tuner in TUNING:
        for kind in ROWS:
            marks = [] if (tuner, kind) in QUICK else [pytest.mark.slow]
            yield pytest.param(tuner, kind, marks=marks, id=f"{tuner}-{kind}")


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("tuner", "kind"), cases())
def test_a_resumed_trainer_ends_as_one_that_was_never_stopped(tiny_model, tmp_path, one_thread, tuner, kind):
    for name in ("whole", "again"):
        (tmp_path / name).mkdir()
    weights, logged = train(make_trainer(tiny_model, tmp_path / "whole", tuner, kind))
    for step in (4, 6):  # in the middle of an epoch and at its end
        (tmp_path / "again" / str(step)).mkdir()
        trainer = make_trainer(tiny_model, tmp_path / "again" / str(step), tuner, kind)
        ours, our_logged = train(trainer, tmp_path / "whole" / f"checkpoint-{step}")
        assert our_logged == logged, f"from step {step}"
        assert all(one.dtype == torch.float32 for one in ours)
        assert all(one.equal(other) for one, other in zip(ours, weights, strict=True)), f"from step {step}"
