"""Distillation: its loss is the generalised Jensen-Shannon divergence, and the model comes nearer to its teacher."""

from __future__ import annotations

import pytest
import torch

from engine.data.render import Renderer
from engine.data.room import Room
from engine.models.loading import load_model, load_tokenizer
from engine.objectives import OBJECTIVES
from engine.runtime.beginning import Beginning
from engine.runtime.parts import Means, Other
from engine.specs.problem import ProblemError
from storage import models
from storage.models import NewModel
from tests.fakes import byte_model
from tests.objectives.online_parts import conversations, spec_of, trainer_of
from tests.runtime.training_room import make_room

STEPS = 20


class Quiet:
    tokens = 0.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.set_num_threads(1)
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def base(folder):
    return byte_model.write(folder / "bytes")


@pytest.fixture(scope="module")
def teacher(folder):
    """Other weights, twice as wide, and sure of what it says."""
    made = byte_model.write(folder / "teacher", seed=5, hidden=64)
    model = load_model(made, dtype="float32")
    with torch.no_grad():
        model.lm_head.weight *= 12
    model.save_pretrained(made)
    return made


def means_of(teacher):
    def other(text):
        assert text == "base:teacher"
        model = load_model(teacher, dtype="float32").requires_grad_(False).eval()
        return Other(model, load_tokenizer(teacher))

    return Means(other=other)


def made(base, teacher, folder, *, changes=None, **settings):
    objective = {"kind": "distill", "teacher": "teacher", "max_new_tokens": 8, **settings}
    spec = spec_of(
        objective,
        max_steps=STEPS,
        batch_size=4,
        gradient_accumulation=2,
        eval_every_steps=STEPS // 2,
        **{"learning_rate": 1e-2, **(changes or {})},
    )
    rows, held_out = conversations("the sea is wide and cold."), conversations("and cold is the wide sea.", count=4)
    trainer = trainer_of(spec, base, folder, rows, held_out=held_out, means=means_of(teacher))
    trainer.add_callback(Beginning(trainer, Quiet(), None, lambda _: None))
    return trainer


def kl_on_held_out(trainer):
    """Mean KL(teacher || model) at the answers' tokens of the held-out rows, from plain forward passes."""
    found = []
    for row in trainer.eval_dataset:
        ids = torch.tensor([row["prompt"] + row["answer"]])
        with torch.no_grad():
            mine, theirs = (
                model(input_ids=ids).logits[0, len(row["prompt"]) - 1 : -1].log_softmax(-1)
                for model in (trainer.model.eval(), trainer.teacher_model)
            )
        found.append((theirs.exp() * (theirs - mine)).sum(-1).mean())
    return float(torch.stack(found).mean())


@pytest.mark.parametrize(("on_policy", "tuner", "left"), [(0.0, "full", 0.2), (1.0, "full", 0.75), (0.5, "lora", 0.98)])
def test_the_model_comes_nearer_to_its_teacher_on_held_out_rows(on_policy, tuner, left, base, teacher, tmp_path):
    """A measurement has no chance in it. A LoRA of rank 16 cannot change the head, and so little of a random model."""
    trainer = made(
        base,
        teacher,
        tmp_path,
        on_policy=on_policy,
        changes={"tuner": {"kind": tuner}, "learning_rate": 5e-2 if tuner == "lora" else 1e-2},
    )
    before = kl_on_held_out(trainer)
    trainer.train()
    assert before > 0.5
    assert kl_on_held_out(trainer) < left * before
    measured = [one["eval_loss"] for one in trainer.state.log_history if "eval_loss" in one]
    assert measured[-1] == pytest.approx(kl_on_held_out(trainer), rel=0.05), "forward KL on the rows' answers"


def test_an_evaluation_tells_the_loss_of_each_task_type(base, teacher, tmp_path):
    spec = spec_of({"kind": "distill", "teacher": "teacher", "max_new_tokens": 8}, batch_size=4)
    rows = [{**row, "task_type": "ab"[place % 2]} for place, row in enumerate(conversations("the sea is wide."))]
    trainer = trainer_of(spec, base, tmp_path, rows, held_out=rows[:6], means=means_of(teacher))
    found = trainer.evaluate()
    for place, name in enumerate("ab"):
        trainer.eval_dataset = trainer.train_dataset.select(range(place, 6, 2))
        assert trainer.evaluate()["eval_loss"] == pytest.approx(found[f"eval_task_loss/{name}"], rel=1e-5)
    assert found["eval_loss"] == pytest.approx((found["eval_task_loss/a"] + found["eval_task_loss/b"]) / 2, rel=1e-5)
    assert found["eval_task_loss/a"] != pytest.approx(found["eval_task_loss/b"], rel=1e-4)


def test_without_its_loss_it_stays_where_it_is(base, teacher, tmp_path, monkeypatch):
    trainer = made(base, teacher, tmp_path)
    before = kl_on_held_out(trainer)
    real = trainer.compute_loss
    monkeypatch.setattr(trainer, "compute_loss", lambda *told, **named: 0.0 * real(*told, **named))
    trainer.train()
    assert kl_on_held_out(trainer) == pytest.approx(before)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_the_loss_is_that_of_the_paper(beta, temperature, base, teacher, tmp_path):
    """Agarwal et al. 2024 (GKD), equations 1-3: beta KL(P || M) + (1 - beta) KL(Q || M) with M = beta P + (1 - beta) Q,
    whose ends are the forward and the reverse KL."""
    trainer = made(base, teacher, tmp_path, divergence=beta, temperature=temperature)
    inputs = trainer._prepare_inputs([trainer.train_dataset[place] for place in range(8)])
    ids, mask = (torch.cat([inputs[f"prompt_{name}"], inputs[f"completion_{name}"]], dim=1) for name in ("ids", "mask"))
    start = inputs["prompt_ids"].shape[1] - 1
    with torch.no_grad():
        q, p = (
            (model(input_ids=ids, attention_mask=mask).logits[:, start:-1] / temperature).softmax(-1)
            for model in (trainer.model, trainer.teacher_model)
        )

    def kl(one, other):
        return (one * (one.log() - other.log())).sum(-1)

    mixed = beta * p + (1 - beta) * q
    wanted = {0.0: kl(p, q), 1.0: kl(q, p)}.get(beta, beta * kl(p, mixed) + (1 - beta) * kl(q, mixed))
    counted = inputs["completion_mask"].float()
    trainer.model.eval()
    found = trainer.compute_loss(trainer.model, inputs)
    assert found.item() == pytest.approx(((wanted * counted).sum() / counted.sum()).item(), rel=1e-3)


def test_answers_are_the_rows_or_its_own_as_it_was_asked(base, teacher, tmp_path):
    for share, own in ((0.0, False), (1.0, True)):
        trainer = made(base, teacher, tmp_path, on_policy=share)
        rows = [trainer.train_dataset[place] for place in range(8)]
        given = [row["answer"] for row in rows]
        trainer.model.train()
        drawn = trainer._generate_and_score_completions(rows)["completion_ids"].tolist()
        assert (drawn != given) is own
        trainer.model.eval()
        assert trainer._generate_and_score_completions(rows)["completion_ids"].tolist() == given, "evaluations"


def test_a_row_is_its_last_answer_with_the_prompt_that_the_chat_gives(base):
    renderer, entry = Renderer(load_tokenizer(base)), OBJECTIVES["distill"]
    messages = [
        *conversations()[0]["messages"],
        {"role": "user", "content": "More?"},
        {"role": "assistant", "content": "No."},
    ]
    (row,) = entry.tokens({"messages": [*messages, {"role": "user", "content": "?"}]}, renderer, entry.Spec(), Room())
    assert row["prompt"] == renderer.prompt(messages[:-1])
    assert renderer.texts(row["answer"]) == ["N", "o", ".", "<|im_end|>"]
    (view,) = row.source.view()
    assert view["num_trained"] == 4 == row.source.num_trained
    (unanswered,) = entry.tokens({"messages": messages[:1]}, renderer, entry.Spec(), Room())
    assert not unanswered.source.usable
    (cut,) = entry.tokens({"messages": messages}, renderer, entry.Spec(), Room(len(row["prompt"]) + 2))
    assert cut["answer"] == row["answer"][:2] and cut.source.answers_cut == 1


def test_a_teacher_with_other_tokens_is_refused_and_so_is_none(base, folder, tmp_path):
    other = byte_model.write(folder / "other", extra=("<|more|>",))
    with pytest.raises(ProblemError) as refused:
        made(base, other, tmp_path)
    found = refused.value.problems[0]
    assert found.code == "distill_other_vocabulary" and found.values["own"] + 1 == found.values["others"]
    with pytest.raises(ProblemError) as refused:
        spec_of({"kind": "distill"})
    assert [one.code for one in refused.value.problems] == ["distill_no_teacher"]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_run_learns_from_a_model_of_the_studio(base, teacher, tmp_path, monkeypatch):
    with make_room(base, tmp_path, monkeypatch) as room:
        with room.store.write() as session:
            models.add(session, NewModel(name="teacher", path=str(teacher), source="folder", bytes=1))
        done = room.train(
            objective={"kind": "distill", "teacher": "teacher", "on_policy": 0.5, "max_new_tokens": 8},
            data={"max_length": 512},
            tuner={"kind": "full"},
        )
        assert done.state == "succeeded", room.log(done.id)
        losses = [value for _, value in room.curve(done.id, "eval_loss")]
        assert losses[-1] < losses[0]
        missing = room.train(objective={"kind": "distill", "teacher": "99@3"}, data={"max_length": 512})
        assert missing.state == "failed" and missing.reason == "model_not_there"
