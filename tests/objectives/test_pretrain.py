"""Pre-training learns what follows what, at every token; and a run goes from text rows to a loss that falls."""

from __future__ import annotations

import math
import random

import pytest
import torch

from engine.data.room import Room
from engine.data.rows import RowWriter
from engine.objectives import OBJECTIVES
from storage import datasets
from storage.datasets import NewVersion
from tests.objectives.workbench import learned, make
from tests.runtime.training_room import make_room

TEXT = "The quick brown fox jumps over the lazy dog. " * 40
WORDS, LENGTH, STEPS = range(500, 516), 24, 60
GUESSING = math.log(len(WORDS))
"""Loss of a model that knows which words there are but not which follows which."""


def texts(count, seed, *, shuffled=False):
    """Texts in which each word has the one that follows it, from a word drawn at random; or the same words in any order."""
    draw = random.Random(seed)
    follows = list(WORDS)
    random.Random(0).shuffle(follows)
    rows = []
    for _ in range(count):
        place = draw.randrange(len(follows))
        ids = [follows[(place + step) % len(follows)] for step in range(LENGTH)]
        if shuffled:
            draw.shuffle(ids)
        rows.append({"input_ids": ids, "labels": ids})
    return rows


def trainer(small_model, folder, train):
    training = {"learning_rate": 3e-3}
    return make(small_model, folder, {"kind": "pretrain"}, train, texts(32, 2), training=training, steps=STEPS)


def test_what_follows_what_is_learned_on_texts_that_were_held_out(small_model, tmp_path):
    before, after = learned(trainer(small_model, tmp_path, texts(256, 1)))
    assert before["eval_loss"] > 2 * GUESSING
    assert after["eval_loss"] < GUESSING / 4


def test_of_words_in_any_order_only_the_words_are_learned(small_model, tmp_path):
    _, after = learned(trainer(small_model, tmp_path, texts(256, 1, shuffled=True)))
    assert after["eval_loss"] > 0.9 * GUESSING


def test_without_its_loss_nothing_is_learned(small_model, tmp_path):
    before, after = learned(trainer(small_model, tmp_path, texts(64, 1)), weight=0.0)
    assert after["eval_loss"] == pytest.approx(before["eval_loss"], rel=1e-6)


def test_the_loss_is_the_mean_over_every_token_that_has_one_before_it(small_model, small_renderer, tmp_path):
    """Radford et al. 2018, equation 1: the log-likelihood of each token after those before it."""
    said = [{"text": "One two three four."}, {"text": "Five six."}]
    entry, room = OBJECTIVES["pretrain"], Room(64)
    rows = [row for one in said for row in entry.tokens(one, small_renderer, entry.Spec(), room)]
    rows = [{name: [token % 1024 for token in row[name]] for name in ("input_ids", "labels")} for row in rows]
    made = make(small_model, tmp_path, {"kind": "pretrain"}, rows, rows)
    expected, count = 0.0, 0
    for row in rows:
        assert row["labels"] == row["input_ids"], "every token carries loss"
        with torch.no_grad():
            chances = made.model(torch.tensor([row["input_ids"]])).logits[0].double().log_softmax(-1)
        for place, token in enumerate(row["input_ids"][1:]):
            expected, count = expected - float(chances[place, token]), count + 1
    assert made.evaluate()["eval_loss"] == pytest.approx(expected / count, rel=1e-5)
    batch = made.data_collator([dict(row) for row in rows])
    items = made._get_num_items_in_batch([batch], "cpu")
    with made._computing():
        found = made.compute_loss(made.model, batch, num_items_in_batch=items)
    assert float(found) == pytest.approx(expected / count, rel=1e-5)


def test_a_model_learns_from_texts(tiny_model, tmp_path, monkeypatch):
    with make_room(tiny_model, tmp_path, monkeypatch) as room:
        with RowWriter(tmp_path / "rows.parquet", "text") as writer:
            for number in range(8):
                writer.add({"text": f"{number} {TEXT}", "split": "train"})
        folder = room.home.datasets / writer.sha256
        folder.mkdir()
        path = (tmp_path / "rows.parquet").rename(folder / "rows.parquet")
        with room.store.write() as session:
            datasets.add_version(
                session,
                NewVersion(
                    name="texts",
                    sha256=writer.sha256,
                    path=str(path),
                    row_kind="text",
                    format="text",
                    rows=8,
                    usable_rows=8,
                    bytes=path.stat().st_size,
                    source_name="texts.txt",
                ),
            )
        done = room.train(
            objective={"kind": "pretrain"}, data={"dataset": "texts", "packing": True, "eval_fraction": 0.2}
        )
        assert done.state == "succeeded", room.log(done.id)
        losses = [value for _, value in room.curve(done.id)]
        assert losses[-1] < losses[0] - 0.1
        counts = done.result["counts"]
        assert counts["split_rows"] == counts["train_rows"] and counts["train_sequences"] > counts["train_rows"]
        assert done.result["answers"] == []
