"""The reference: computed once, used again, made anew where it is damaged; the same with every tuner and after a stop."""

from __future__ import annotations

import peft
import pytest
import torch

from engine.objectives import dpo, reference
from engine.objectives.kept import KEPT_FILES
from engine.runtime.beginning import Beginning
from engine.tuners import TUNERS
from tests.objectives.workbench import judged, make, pairs
from tests.runtime.test_beginning import Quiet

DPO = {"kind": "dpo", "beta": 0.5}
LORA = {"kind": "lora", "rank": 4}
LEFT_OUT = ("runtime", "per_second", "total_flos", "train_loss")


def counting(monkeypatch):
    """How often a trainer asks the start for a batch."""
    asked = []
    plain = reference.start_log_probs
    monkeypatch.setattr(reference, "start_log_probs", lambda *given: asked.append(1) or plain(*given))
    return asked


def files(folder):
    return sorted((folder / "references").glob("*.safetensors"))


def figures(trainer):
    return [trainer.train_dataset[name][:] for name in dpo.COLUMNS]


def test_the_figures_are_computed_once_and_used_by_the_next_attempt(small_model, tmp_path, monkeypatch):
    asked = counting(monkeypatch)
    first = make(small_model, tmp_path, DPO, pairs(20, 1), pairs(3, 2))
    assert len(asked) == 3 and len(files(tmp_path)) == 2  # two batches of training rows, one of the others
    again = make(small_model, tmp_path, DPO, pairs(20, 1), pairs(3, 2))
    assert len(asked) == 3 and figures(again) == figures(first)
    make(small_model, tmp_path, {**DPO, "loss": "ipo", "beta": 0.2}, pairs(20, 1), pairs(3, 2))
    assert len(asked) == 3, "the figures depend on no setting of the loss"


def test_other_rows_or_another_start_have_their_own_figures(small_model, tiny_model, tmp_path, monkeypatch):
    asked = counting(monkeypatch)
    make(small_model, tmp_path, DPO, pairs(8, 1), pairs(3, 2))
    make(small_model, tmp_path, DPO, pairs(8, 5), pairs(3, 2))
    assert len(asked) == 3
    make(tiny_model, tmp_path, DPO, pairs(8, 1), pairs(3, 2))
    assert len(asked) == 5


@pytest.mark.parametrize("damage", ["bytes", "short", "gone"])
def test_damaged_figures_are_noticed_and_made_anew(small_model, tmp_path, monkeypatch, damage):
    asked = counting(monkeypatch)
    whole = figures(make(small_model, tmp_path, DPO, pairs(8, 1), pairs(3, 2)))
    for path in files(tmp_path):
        content = bytearray(path.read_bytes())
        content[-3] ^= 1
        {
            "bytes": lambda path=path, content=content: path.write_bytes(content),
            "short": lambda path=path, content=content: path.write_bytes(content[:-8]),
            "gone": lambda path=path: path.unlink(),
        }[damage]()
    again = make(small_model, tmp_path, DPO, pairs(8, 1), pairs(3, 2))
    assert len(asked) == 4 and figures(again) == whole


def test_the_oldest_figures_are_forgotten(small_model, tmp_path):
    folder = tmp_path / "references"
    folder.mkdir()
    for number in range(KEPT_FILES):
        (folder / f"{number}.safetensors").write_bytes(b"old")
    make(small_model, tmp_path, DPO, pairs(8, 1), pairs(3, 2))
    assert len(files(tmp_path)) == KEPT_FILES


@pytest.mark.parametrize("tuner", [{"kind": "full"}, {"kind": "lora", "rank": 4}], ids=["full", "lora"])
def test_kept_figures_are_those_of_a_reference_that_is_asked_at_each_step(small_model, tmp_path, tuner):
    def first_losses(chosen):
        trainer = make(small_model, tmp_path, {**DPO, "reference": chosen}, pairs(32, 1), pairs(3, 2), tuner=tuner)
        assert "ref" not in getattr(trainer.model, "peft_config", {})
        trainer.train()
        return [one["loss"] for one in trainer.state.log_history if "loss" in one]

    assert first_losses("cached") == pytest.approx(first_losses("live"), abs=1e-5)


def moved_adapter(model, seed=4):
    """Give the new adapter other weights, as an earlier run would have."""
    draw = torch.Generator().manual_seed(seed)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            weight.data.copy_(0.05 * torch.randn(weight.shape, generator=draw))


@pytest.mark.parametrize("chosen", ["cached", "live"])
def test_an_adapter_that_is_trained_further_is_compared_with_itself_as_it_started(
    small_model, tmp_path, monkeypatch, chosen
):
    plain = type(TUNERS["lora"]).prepare

    def prepare(tuner, model, spec, given):
        made = plain(tuner, model, spec, given)
        moved_adapter(made)
        return made

    monkeypatch.setattr(type(TUNERS["lora"]), "prepare", prepare)
    trainer = make(small_model, tmp_path, {**DPO, "reference": chosen}, pairs(32, 1), pairs(16, 2), tuner=LORA)
    assert ("ref" in trainer.model.peft_config) == (chosen == "live")
    before = trainer.evaluate()
    assert abs(before["eval_rewards/chosen"]) < 1e-4 and abs(before["eval_rewards/rejected"]) < 1e-4
    trainable = [name for name, weight in trainer.model.named_parameters() if weight.requires_grad]
    assert trainable and not any(".ref." in name for name in trainable)


def saved_to(folder):
    def save(step, write):
        (folder / f"checkpoint-{step}").mkdir(parents=True)
        write(folder / f"checkpoint-{step}")

    return save


def run(trainer, resume=None):
    """Train; the trained weights and all figures that were logged."""
    trainer.add_callback(Beginning(trainer, Quiet(), resume, lambda _: None))
    trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    weights = [weight.detach().clone() for weight in trainer.model.parameters() if weight.requires_grad]
    logged = [
        {name: value for name, value in one.items() if not any(part in name for part in LEFT_OUT)}
        for one in trainer.state.log_history
    ]
    return weights, logged


def reward_rows(count, seed):
    return [
        {f"{side}_ids": [*row["prompt_ids"], *row[f"{side}_ids"]] for side in ("chosen", "rejected")}
        for row in pairs(count, seed)
    ]


def score_rows(count, seed):
    rows = judged(count, seed)
    return [{"input_ids": row["prompt_ids"] + row["completion_ids"], "score": float(row["label"])} for row in rows]


RESUMED = {
    "dpo-cached": (DPO, pairs),
    "dpo-live": ({**DPO, "reference": "live"}, pairs),
    "kto-cached": ({"kind": "kto"}, judged),
    "kto-live": ({"kind": "kto", "reference": "live"}, judged),
    "orpo": ({"kind": "orpo"}, pairs),
    "reward": ({"kind": "reward"}, reward_rows),
    "scores": ({"kind": "reward"}, score_rows),
}


ALSO = ("dpo-live", "kto-live", "reward")
"""Cases that differ from a quick one in what is asked of the start, or in its loss, alone."""


@pytest.mark.parametrize("case", [pytest.param(one, marks=[pytest.mark.slow] * (one in ALSO)) for one in RESUMED])
def test_a_resumed_trainer_ends_as_one_that_was_never_stopped(small_model, tmp_path, case):
    objective, rows = RESUMED[case]
    tuner = {"kind": "lora", "rank": 4, "dropout": 0.2}
    # seven rows by two: in the middle of an epoch, and a last batch of one row
    more = {"batch_size": 2, "gradient_accumulation": 2, "save_every_steps": 1, "log_every_steps": 3}
    named = {"tuner": tuner, "training": more, "steps": 5}

    def made(folder):
        trainer = make(small_model, tmp_path, objective, rows(7, 1), rows(3, 2), save=saved_to(folder), **named)
        trainer.args.save_steps = trainer.state.save_steps = 1
        return trainer

    weights, logged = run(made(tmp_path / "whole"))
    ours, our_logged = run(made(tmp_path / "again"), tmp_path / "whole" / "checkpoint-3")
    assert our_logged == logged
    assert all(one.equal(other) for one, other in zip(ours, weights, strict=True))


UNUSUAL = {
    "pissa": lambda task: peft.LoraConfig(r=4, init_lora_weights="pissa", target_modules=["q_proj"], task_type=task),
    "prompt": lambda task: peft.PromptTuningConfig(num_virtual_tokens=4, task_type=task),
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_adapters_that_change_the_base_or_the_answers_are_compared_with_the_same_start(
    small_model, tmp_path, monkeypatch, name
):
    """One moves a part of the base's weights into the adapter, the other puts random tokens before each row."""

    def prepare(tuner, model, spec, given):
        del tuner, spec
        return peft.get_peft_model(model, UNUSUAL[name](given.task))

    monkeypatch.setattr(type(TUNERS["lora"]), "prepare", prepare)

    def rewards(chosen):
        trainer = make(small_model, tmp_path, {**DPO, "reference": chosen}, pairs(16, 1), pairs(8, 2), tuner=LORA)
        return [trainer.evaluate()[f"eval_rewards/{side}"] for side in ("chosen", "rejected")]

    cached, live = rewards("cached"), rewards("live")
    assert cached == pytest.approx(live, abs=1e-5)
    assert (max(map(abs, cached)) < 1e-4) == (name == "pissa"), "new virtual tokens are no part of the start"
