"""Lengths in tokens: counted once, on all rows or a stated sample, and cut as the trainer's rows are cut."""

from __future__ import annotations

import json

import pytest

from engine.data import sample as sampling
from engine.data import token_lengths
from engine.data.importer import store_rows
from engine.data.render import Renderer
from engine.data.room import Room
from engine.data.rows import RowWriter, iterate_rows
from engine.data.sample import num_rows, sample
from engine.data.token_lengths import measure
from engine.data.tokens import prepare, sequences_of
from engine.models.loading import load_tokenizer
from engine.specs.job import parse
from engine.specs.problem import ProblemError


@pytest.fixture(scope="module")
def renderer(starter):
    return Renderer(load_tokenizer(starter))


@pytest.fixture
def stored(tmp_path):
    def one(*rows):
        upload = tmp_path / "upload"
        upload.write_text("".join(json.dumps(row) + "\n" for row in rows))
        (tmp_path / "datasets").mkdir(exist_ok=True)
        return store_rows(upload, tmp_path / "datasets").path

    return one


def turns(number):
    """Conversations of one to three turns, some of them long."""
    said = [
        {"role": role, "content": f"{role} {number} " + "word " * (7 * number % 90)}
        for _ in range(1 + number % 3)
        for role in ("user", "assistant")
    ]
    return {"messages": said}


def choice(number):
    long = "word " * (11 * number % 70)
    return {"prompt": f"ask {number} {long}", "chosen": f"good {number} {long}", "rejected": f"bad {number}"}


ROWS = {"sft": turns, "dpo": choice, "pretrain": lambda number: {"text": "word " * (1 + 9 * number % 200)}}


def spec(kind, **data):
    return parse(
        {
            "data": {"dataset": "d", "eval_fraction": 0.0, **data},
            "objective": {"kind": kind},
            "tuner": {"kind": "lora"},
            "training": {"learning_rate": 1e-4, "epochs": 1},
        }
    )


def measured(path, renderer, tmp_path, kind="sft"):
    return measure(path, renderer, spec(kind).objective, tmp_path / "tokens", seen=lambda: None)


@pytest.mark.parametrize("max_length", [32, 64, 128, 1024])
@pytest.mark.parametrize("kind", ["sft", "dpo"])
@pytest.mark.parametrize("truncation", ["auto", "cut_end", "cut_start"])
def test_as_many_answers_are_cut_as_the_rows_of_a_run_lose(stored, renderer, tmp_path, kind, truncation, max_length):
    path, objective = stored(*(ROWS[kind](i) for i in range(60))), spec(kind).objective
    room = Room(max_length, truncation)
    sources = [made.source for row in iterate_rows(path) for made in sequences_of(row, renderer, objective, room)]
    cut = measured(path, renderer, tmp_path, kind).cut(room)
    assert cut["of"] == "answers"
    assert cut["affected"] == sum(source.answers_cut for source in sources)
    assert cut["among"] == sum(source.num_answers for source in sources)


@pytest.mark.parametrize(
    ("kind", "truncation", "count"),
    [
        ("sft", "drop", "left_out_rows"),
        ("sft", "split", "split_rows"),
        ("dpo", "drop", "left_out_rows"),
        ("pretrain", "auto", "split_rows"),
        ("pretrain", "drop", "left_out_rows"),
    ],
)
def test_as_many_rows_are_left_out_or_split_as_in_a_run(stored, renderer, tmp_path, kind, truncation, count):
    path = stored(*(ROWS[kind](i) for i in range(60)))
    run = prepare(path, renderer, spec(kind, max_length=100, truncation=truncation), tmp_path / "run").counts
    cut = measured(path, renderer, tmp_path, kind).cut(Room(100, truncation))
    assert (cut["of"], cut["affected"], cut["among"]) == ("rows", run[count], 60) and run[count]


def test_the_figures_are_those_of_prompts_and_answers(stored, renderer, tmp_path):
    found = measured(stored(turns(0), turns(1), turns(2)), renderer, tmp_path).as_dict()
    assert (found["rows"], found["counted"], found["refused"], found["answers"]) == (3, 3, 0, 6)
    assert sum(count for *_, count in found["answer_tokens"]["bars"]) == 6
    assert sum(count for *_, count in found["prompt_tokens"]["bars"]) == 3
    pairs = measured(stored(choice(0), choice(1)), renderer, tmp_path, "dpo").as_dict()
    assert sum(count for *_, count in pairs["prompt_tokens"]["bars"]) == 2, "the prompt of a pair is one"
    texts = measured(stored(ROWS["pretrain"](3)), renderer, tmp_path, "pretrain").as_dict()
    assert texts["row_tokens"]["max"] == texts["total_tokens"] and "answer_tokens" not in texts


def test_what_was_counted_is_not_counted_again(stored, renderer, tmp_path, monkeypatch):
    path = stored(*(turns(i) for i in range(5)))
    first = measured(path, renderer, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(token_lengths, "_count", None)
        assert measured(path, renderer, tmp_path).as_dict() == first.as_dict()
        assert measured(path, renderer, tmp_path).row_kind == "conversation"
    (kept,) = (tmp_path / "tokens").glob("lengths-*.npz")
    kept.write_bytes(kept.read_bytes()[:50])
    assert measured(path, renderer, tmp_path).as_dict() == first.as_dict(), "a broken file is made anew"


def test_only_the_newest_counts_are_kept(stored, renderer, tmp_path, monkeypatch):
    monkeypatch.setattr(token_lengths, "KEPT_FILES", 2)
    for number in range(4):
        measured(stored(turns(number)), renderer, tmp_path)
    assert len(list((tmp_path / "tokens").iterdir())) == 2


def test_rows_that_the_template_refuses_are_counted_and_others_go_on(stored, starter, tmp_path):
    tokenizer = load_tokenizer(starter)
    refuse = "{% if 'user 1 ' in messages[0].content %}{{ raise_exception('no') }}{% endif %}"
    tokenizer.chat_template = refuse + tokenizer.chat_template
    found = measured(stored(*(turns(i) for i in range(3))), Renderer(tokenizer), tmp_path).as_dict()
    assert (found["counted"], found["refused"], found["answers"]) == (3, 1, 4)


def test_rows_of_another_kind_are_a_problem(stored, renderer, tmp_path):
    with pytest.raises(ProblemError) as caught:
        measured(stored(turns(0)), renderer, tmp_path, "dpo")
    assert caught.value.problems[0].code == "data_rows_do_not_fit"


def test_of_many_rows_an_evenly_spread_sample_is_counted(tmp_path, renderer, monkeypatch):
    path = tmp_path / "rows" / "rows.parquet"
    path.parent.mkdir()
    with RowWriter(path, "text") as writer:
        for number in range(3500):
            writer.add({"text": str(number)})
    assert num_rows(path) == 3500
    assert len(list(sample(path, 3500))) == 3500
    monkeypatch.setattr(sampling, "PLACES", 10)
    chosen = [int(row["text"]) for row in sample(path, 40)]
    assert chosen == [place * 350 + more for place in range(10) for more in range(4)]
    monkeypatch.setattr(token_lengths, "MOST_ROWS", 40)
    found = measured(path, renderer, tmp_path, "pretrain").as_dict()
    assert (found["rows"], found["counted"]) == (3500, 40)
