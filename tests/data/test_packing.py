"""What the view shows of packed rows is what the trainer packs; the token view is quick."""

from __future__ import annotations

import time

import pyarrow
import pyarrow.parquet as pq
import pytest
from datasets import Dataset

from engine.data.packing import pack, view_packed
from engine.data.render import Renderer
from engine.data.room import Room
from engine.data.tokens import view
from engine.models.loading import load_tokenizer
from engine.objectives import OBJECTIVES


@pytest.fixture(scope="module")
def renderer(starter):
    return Renderer(load_tokenizer(starter))


def test_a_packed_sequence_is_shown_with_its_rows(renderer, tmp_path):
    rows = [
        row.sft_columns()
        for number in range(6)
        for row in renderer.conversation(
            [{"role": "user", "content": f"q {number}"}, {"role": "assistant", "content": "a " * (1 + 3 * number)}]
        )
    ]
    pq.write_table(pyarrow.Table.from_pylist([dict(row) for row in rows]), tmp_path / "train.parquet")
    trained = pack(Dataset.from_parquet(str(tmp_path / "train.parquet")), 120)
    shown = [view_packed(tmp_path / "train.parquet", 120, index, renderer) for index in range(len(trained))]
    assert [[token["id"] for token in one["tokens"]] for one in shown] == trained["input_ids"]
    alone = {tuple(row["input_ids"]) for row in rows}
    for one in shown:
        for part in one["rows"]:
            ids = [token["id"] for token in one["tokens"][part["start"] : part["start"] + part["num_tokens"]]]
            alone.remove(tuple(ids))
    assert not alone and len(shown) == shown[0]["sequences"] > 1 and len(shown[0]["rows"]) > 1
    assert sum(one["num_trained"] for one in shown) == sum(row.source.num_trained for row in rows)
    with pytest.raises(IndexError):
        view_packed(tmp_path / "train.parquet", 120, len(shown), renderer)


@pytest.mark.parametrize("turns", [1, 40])
def test_the_token_view_takes_less_than_300_ms(renderer, turns):
    said = [
        {"role": role, "content": f"{turn} " + "some words of a row " * 10}
        for turn in range(turns)
        for role in ("user", "assistant")
    ]
    row = {"messages": said, "tools": None}
    spent = []
    for _ in range(3):
        began = time.perf_counter()
        shown = view(row, renderer, OBJECTIVES["sft"].Spec(), Room(1 << 20))
        spent.append(time.perf_counter() - began)
    assert shown["num_tokens"] > (4000 if turns == 40 else 80) and min(spent) < 0.3


def test_a_judged_answer_is_shown_though_no_objective_takes_it(renderer):
    row = {
        "prompt": [{"role": "user", "content": "Q"}],
        "completion": [{"role": "assistant", "content": "A"}],
        "label": True,
        "score": None,
    }
    shown = view(row, renderer, None, Room())
    assert "".join(token["text"] for token in shown["tokens"] if token["trained"]) == "A<|im_end|>"
    assert not shown["rewritten"] and not shown["split"]
