"""The label head: what it reads, its loss by hand, that it learns, and that it cannot learn what is not there."""

from __future__ import annotations

import json
import random

import numpy
import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from transformers import TrainerCallback

from engine.data.render import Renderer
from engine.data.room import Room
from engine.models.labelling import balanced_weights, label_losses, last_places, measures, padded, read_last
from engine.models.loading import load_model, load_tokenizer
from engine.objectives import OBJECTIVES
from engine.runtime import start
from engine.runtime.beginning import Beginning
from engine.runtime.building import Frame, Rows, build
from engine.runtime.device import Device
from engine.runtime.start import Start
from engine.specs.cadence import Cadence
from engine.specs.job import parse
from engine.specs.problem import ProblemError
from tests.optimizers.training import Quiet
from tests.runtime.training_room import add_rows, make_room

CLASSIFY = OBJECTIVES["classify"]
LABELS = ("billing", "login", "shipping")
WORDS = {label: range(10 + 12 * place, 22 + 12 * place) for place, label in enumerate(LABELS)}


def test_the_prompt_is_read_as_a_model_is_given_it_and_the_last_answer_is_the_label(tiny_model):
    renderer = Renderer(load_tokenizer(tiny_model))
    asked = [{"role": "system", "content": "Which label?"}, {"role": "user", "content": "My card was charged twice."}]
    row = {"messages": [*asked, {"role": "assistant", "content": " billing \n"}], "tools": None}
    (made,) = CLASSIFY.tokens(row, renderer, CLASSIFY.Spec(), Room())
    assert dict(made) == {"input_ids": renderer.prompt(asked), "label": "billing"}
    (shown,) = made.source.view()
    assert shown["label"] == "billing" and shown["num_trained"] == 0
    assert [token["id"] for token in shown["tokens"]] == made["input_ids"]
    (cut,) = CLASSIFY.tokens(row, renderer, CLASSIFY.Spec(), Room(16))
    assert cut["input_ids"] == made["input_ids"][:16] and cut.source.truncated == len(made["input_ids"]) - 16


@pytest.mark.parametrize("last", [{"role": "assistant", "content": " "}, {"role": "user", "content": "billing"}])
def test_a_row_without_a_label_is_refused(tiny_model, last):
    renderer = Renderer(load_tokenizer(tiny_model))
    with pytest.raises(ProblemError) as refused:
        CLASSIFY.tokens({"messages": [{"role": "user", "content": "x"}, last]}, renderer, CLASSIFY.Spec(), Room())
    assert [one.code for one in refused.value.problems] == ["row_no_class"]


@pytest.mark.parametrize("count", [1, 1001])
def test_one_label_or_too_many_are_refused(count):
    with pytest.raises(ProblemError) as refused:
        CLASSIFY.labels({"label": [f"label {number}" for number in range(count)]})
    assert [one.code for one in refused.value.problems] == ["data_label_count"]


def test_the_loss_is_the_cross_entropy_of_the_labels():
    logits, labels = torch.randn(5, 3, dtype=torch.float64), torch.tensor([0, 2, 2, 1, 2])
    share = numpy.exp(logits.numpy()) / numpy.exp(logits.numpy()).sum(1, keepdims=True)
    right = share[range(5), labels.numpy()]
    assert label_losses(logits, labels, None, 0.0).mean().item() == pytest.approx(-numpy.log(right).mean(), rel=1e-6)
    weights = balanced_weights(labels.numpy(), 3)
    assert weights.tolist() == pytest.approx([5 / 3, 5 / 3, 5 / 9])
    smoothed = -(0.9 * numpy.log(right) + 0.1 * numpy.log(share).mean(1))
    expected = (smoothed * weights.numpy()[labels.numpy()]).mean()
    assert label_losses(logits, labels, weights, 0.1).mean().item() == pytest.approx(expected, rel=1e-6)


def test_the_measures_are_those_of_their_definitions():
    found = measures(numpy.array([0, 0, 1, 1, 2]), numpy.array([0, 1, 1, 1, 0]))
    assert found["accuracy"] == pytest.approx(3 / 5)
    assert found["macro_f1"] == pytest.approx((2 * 1 / 4 + 2 * 2 / 5 + 0.0) / 3)


def test_the_head_reads_the_last_real_token_also_where_it_is_the_one_for_padding(mini_model):
    model = load_model(mini_model, dtype="float32", labels=LABELS)
    read_last(model)
    rows, filler = [[10, 11, 12, 13, 14], [20, 2, 2]], 2
    batch = padded(rows, filler)
    assert last_places(batch["attention_mask"]).tolist() == [4, 2]
    with torch.no_grad():
        together = model(**batch).logits
        alone = [model(**padded([row], filler)).logits[0] for row in rows]
        changed = model(**padded([rows[0], [20, 2, 30]], filler)).logits
    torch.testing.assert_close(together, torch.stack(alone), atol=1e-5, rtol=1e-4)
    assert not together[1].allclose(changed[1], atol=1e-4), "its last token counts"


def rows_of(number, *, shuffled=False, seed=0):
    """Six tokens, three of them words of the label."""
    draw = random.Random(seed)
    made = []
    for place in range(number):
        label = LABELS[place % 3]
        ids = [draw.choice(WORDS[label]) for _ in range(3)] + [draw.randrange(60, 90) for _ in range(3)]
        draw.shuffle(ids)
        made.append({"input_ids": ids, "label": draw.choice(LABELS) if shuffled else label})
    return Dataset.from_list(made)


def make_trainer(mini_model, folder, train, tuner, rate, *, steps=100, resume=None, **objective):
    training = {"learning_rate": rate, "batch_size": 8, "gradient_accumulation": 1, "max_steps": steps, "epochs": 100}
    spec = parse(
        {
            "model": {"dtype": "float32"},
            "data": {"dataset": "rows"},
            "objective": {"kind": "classify", **objective},
            "tuner": tuner,
            "training": {**training, "precision": "fp32", "ema_decay": 0.5 if resume is not None else None},
        }
    )
    tokenizer, device = load_tokenizer(mini_model), Device("cpu", False)
    cadence, labels = Cadence(steps, steps // 2, steps // 2), tuple(CLASSIFY.labels(train))
    renderer, held = Renderer(tokenizer), rows_of(60, seed=9)
    rows = Rows(tokenizer, renderer, folder, train, held, [], [], {}, cadence, labels)
    begin = Start(mini_model, None, "none", "float32", tuner["kind"] == "lora", "classifier")

    def save(step, write):
        (folder / f"checkpoint-{step}").mkdir(parents=True)
        write(folder / f"checkpoint-{step}")

    frame, model = Frame(spec, device, begin, folder), start.load(begin, spec, device, rows)
    trainer = build(frame, model=model, rows=rows, save=save, watch=TrainerCallback(), measure_start=False)
    trainer.add_callback(Beginning(trainer, Quiet(), resume or None, lambda _: None))
    return trainer


def test_held_out_rows_whose_labels_no_training_row_has_are_refused(mini_model, tmp_path):
    train = rows_of(12).map(lambda row: {"label": f"other {row['label']}"})
    with pytest.raises(ProblemError) as refused:
        make_trainer(mini_model, tmp_path, train, {"kind": "full"}, 1e-3)
    assert [one.code for one in refused.value.problems] == ["data_labels_unseen"]


def trained(*given, **objective):
    """What its last evaluation found."""
    trainer = make_trainer(*given, **objective)
    trainer.train()
    return next(one for one in reversed(trainer.state.log_history) if "eval_accuracy" in one)


@pytest.mark.parametrize(
    ("tuner", "rate"), [({"kind": "full"}, 3e-3), ({"kind": "lora", "rank": 8}, 3e-3)], ids=["full", "lora"]
)
def test_it_learns_labels_that_the_words_tell(mini_model, tmp_path, tuner, rate):
    found = trained(mini_model, tmp_path, rows_of(150), tuner, rate)
    assert found["eval_accuracy"] > 0.8 and found["eval_macro_f1"] > 0.8, "chance is 0.33"


def test_it_does_not_learn_labels_that_nothing_tells(mini_model, tmp_path):
    found = trained(mini_model, tmp_path, rows_of(150, shuffled=True), {"kind": "full"}, 3e-3)
    assert found["eval_accuracy"] < 0.55


def test_rare_labels_are_said_more_often_where_all_weigh_the_same(mini_model, tmp_path):
    rare = [row for row in rows_of(150) if row["label"] == "billing"][:4]
    train = Dataset.from_list([*rare, *(row for row in rows_of(150) if row["label"] != "billing")])
    found = {
        weights: trained(mini_model, tmp_path / weights, train, {"kind": "full"}, 1e-3, class_weights=weights)
        for weights in ("none", "balanced")
    }
    assert found["balanced"]["eval_macro_f1"] > found["none"]["eval_macro_f1"]


@pytest.mark.parametrize("tuner", [{"kind": "full"}, {"kind": "lora", "rank": 8, "dropout": 0.1}], ids=["full", "lora"])
def test_the_head_is_saved_and_a_run_goes_on_to_the_last_bit(mini_model, tmp_path, tuner):
    whole = make_trainer(mini_model, tmp_path / "whole", rows_of(30), tuner, 3e-3, steps=6, resume=False)
    whole.train()
    resume = tmp_path / "whole" / "checkpoint-3"
    again = make_trainer(mini_model, tmp_path / "again", rows_of(30), tuner, 3e-3, steps=6, resume=resume)
    again.train(resume_from_checkpoint=str(resume))
    name = "adapter_model.safetensors" if tuner["kind"] == "lora" else "model.safetensors"
    stored = [load_file(tmp_path / run / "checkpoint-6" / name) for run in ("whole", "again")]
    assert any("score" in key for key in stored[0])
    assert all(one.equal(stored[1][key]) for key, one in stored[0].items())
    points = [
        [(one["step"], one["loss"], one["num_tokens"]) for one in run.state.log_history if "loss" in one]
        for run in (whole, again)
    ]
    assert points[0] == points[1]


@pytest.mark.timeout(300)
def test_a_run_tells_what_it_is_worth_beside_labels_without_training(tiny_model, tmp_path, monkeypatch):
    draw = random.Random(4)
    said = {"billing": "invoice refund card", "login": "password account locked", "shipping": "parcel courier late"}
    rows = []
    for place in range(90):
        label = LABELS[place % 3]
        text = " ".join(draw.choices(said[label].split(), k=4))
        rows.append(
            {
                "text": text,
                "label": "returns" if place >= 87 else label,
                "split": "train" if place < 60 else "test",
            }
        )
    path = tmp_path / "labels.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    with make_room(tiny_model, tmp_path / "home", monkeypatch) as room:
        add_rows(room, "labels", path)
        training = {
            "max_steps": 60,
            "learning_rate": 3e-3,
            "batch_size": 4,
            "gradient_accumulation": 1,
            "eval_every_steps": 8,
        }
        job_id = room.submit(
            objective={"kind": "classify"},
            tuner={"kind": "full"},
            data={"dataset": "labels", "eval_fraction": 0.2, "max_length": 64},
            training={**training, "best_by": "metric"},
        )
        done = room.finish(job_id)
        assert done.state == "succeeded", room.log(job_id)
        found = done.result["classification"]
        unknown = sum(row["label"] == "returns" for row in rows)
        assert (found["origin"], found["rows"], found["unknown"]) == ("held_out", 30, unknown)
        reachable = 1 - unknown / 30
        assert found["trained"]["accuracy"] > 0.8 * reachable
        assert found["baseline"]["class_means"]["accuracy"] > 0.8 * reachable
        assert found["baseline"]["random_projection"]["accuracy"] > 0.8 * reachable
        assert found["baseline"]["most_frequent"]["accuracy"] < 0.6
        assert found["confusion"]["labels"] == sorted(LABELS) and found["confusion"]["others"]
        assert sum(map(sum, found["confusion"]["counts"])) == 30
        assert "answers" not in done.result
        rows_there = room.checkpoints(job_id)
        assert {one.head for one in rows_there} == {"classifier"}
        assert found["step"] == done.result["best_step"]
        assert room.curve(job_id, "eval_accuracy") and room.curve(job_id, "eval_macro_f1")
        assert room.curve(job_id, "tokens_per_second")
