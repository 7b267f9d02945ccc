"""The average of the weights: what it is, that it is what others see, and that the run itself goes on without it."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from engine.runtime import beginning
from engine.specs.job import parse
from engine.specs.problem import ProblemError
from tests.optimizers.training import losses, make_trainer, spec_of, weights

LORA = {"kind": "lora", "rank": 2}


def test_it_is_the_average_computed_by_hand_and_what_the_checkpoint_holds(mini_model, tmp_path, monkeypatch):
    monkeypatch.setattr(beginning, "is_ample", lambda *_: False)
    trainer = make_trainer(mini_model, tmp_path, spec_of(tuner=LORA, ema_decay=0.25), evaluation=True)
    steps, plain = [], trainer.training_step
    trainer.training_step = lambda *a: (steps.append(weights(trainer.model)), plain(*a))[1]
    trainer.train()
    seen = [*steps[1:], weights(trainer.model)]  # the first is the trial before step 1, the second the start
    average = {name: one.clone() for name, one in seen[0].items()}
    for number, one in enumerate(seen[1:], start=1):
        keep = min(0.25, (1 + number) / (10 + number))
        average = {name: keep * kept + (1 - keep) * one[name] for name, kept in average.items()}
    stored = load_file(tmp_path / "checkpoint-4" / "adapter_model.safetensors")
    raw = load_file(tmp_path / "checkpoint-4" / "raw" / "weights.safetensors")
    for name, expected in average.items():
        torch.testing.assert_close(stored[name.replace(".default", "")], expected, atol=1e-7, rtol=1e-5)
        assert raw[name].equal(seen[-1][name]) and not raw[name].equal(stored[name.replace(".default", "")])


def test_evaluations_see_the_average_and_training_does_not(mini_model, tmp_path):
    runs = {}
    for name, more in (("plain", {}), ("averaged", {"ema_decay": 0.9})):
        trainer = make_trainer(mini_model, tmp_path / name, spec_of(tuner=LORA, **more), evaluation=True)
        trainer.train()
        runs[name] = trainer
    assert losses(runs["plain"]) == losses(runs["averaged"])
    evaluated = {
        name: [one["eval_loss"] for one in trainer.state.log_history if "eval_loss" in one]
        for name, trainer in runs.items()
    }
    assert evaluated["averaged"][0] > evaluated["plain"][0], "the average is behind a falling loss"
    with runs["averaged"].shown():
        assert runs["averaged"].model(input_ids=torch.arange(10, 19)[None]).logits.isfinite().all()
    assert all(one.equal(weights(runs["plain"].model)[name]) for name, one in weights(runs["averaged"].model).items())


@pytest.mark.parametrize("tuner", [LORA, None], ids=["lora", "full"])
def test_a_run_goes_on_from_the_weights_themselves_and_their_average(mini_model, tmp_path, tuner):
    spec = spec_of(tuner=tuner, ema_decay=0.5, optimizer="muon")
    whole = make_trainer(mini_model, tmp_path / "whole", spec, evaluation=True)
    whole.train()
    resume = tmp_path / "whole" / "checkpoint-2"
    again = make_trainer(mini_model, tmp_path / "again", spec, evaluation=True, resume=resume)
    again.train(resume_from_checkpoint=str(resume))
    assert losses(again) == losses(whole)
    for path in ("raw/weights.safetensors", "adapter_model.safetensors" if tuner else "model.safetensors"):
        one, other = ((tmp_path / name / "checkpoint-4" / path).read_bytes() for name in ("whole", "again"))
        assert one == other


def test_what_averages_itself_has_no_schedule_and_no_second_average():
    data = spec_of(optimizer="schedule_free", schedule="constant").model_dump()
    data["training"] |= {"schedule": "cosine", "ema_decay": 0.9}
    with pytest.raises(ProblemError) as refused:
        parse(data)
    assert [one.code for one in refused.value.problems] == ["optimizer_needs_constant", "optimizer_averages_itself"]
