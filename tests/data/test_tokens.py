"""Token rows are made once, found again, and are what the view shows."""

from __future__ import annotations

import json
import os

import pyarrow
import pyarrow.parquet as pq
import pytest

from engine.data import tokens
from engine.data.importer import store_rows
from engine.data.packing import packed_sequences
from engine.data.plan import plan
from engine.data.render import Renderer
from engine.data.room import Room
from engine.data.rows import read_rows
from engine.data.tokens import lengths, prepare, view
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


def pair(number, answer="answer"):
    return {"prompt": f"question {number}", "completion": f"{answer} {number}"}


def choice(number):
    return {"prompt": f"question {number}", "chosen": f"good {number}", "rejected": f"bad {number}"}


def spec(objective="sft", seed=1, **data):
    return parse(
        {
            "data": {"dataset": "d", "eval_fraction": 0.2, **data},
            "seed": seed,
            "objective": {"kind": objective},
            "tuner": {"kind": "lora"},
            "training": {"learning_rate": 1e-4, "epochs": 1},
        }
    )


def test_the_view_shows_exactly_the_stored_tokens(stored, renderer, tmp_path):
    path = stored(*(pair(i) for i in range(10)))
    made = prepare(path, renderer, spec(), tmp_path / "tokens")
    train = pq.read_table(made.train_path).drop_columns(["task_type"]).to_pylist()
    seen = []
    for index in set(range(10)) - set(made.eval_indices):
        shown = view(read_rows(path, index, 1)[0], renderer, spec().objective, Room(512))["tokens"]
        labels = [token["id"] if token["trained"] else -100 for token in shown]
        seen.append({"input_ids": [token["id"] for token in shown], "labels": labels})
    assert sorted(seen, key=str) == sorted(train, key=str)


def test_pairs_are_stored_as_prompt_chosen_and_rejected(stored, renderer, tmp_path):
    made = prepare(stored(*(choice(i) for i in range(10))), renderer, spec("dpo"), tmp_path / "tokens")
    row = pq.read_table(made.train_path).to_pylist()[0]
    assert (
        set(row) == {"prompt_ids", "chosen_ids", "rejected_ids", "task_type"}
        and row["chosen_ids"] != row["rejected_ids"]
    )
    assert lengths(made.train_path)[0] == sum(map(len, row.values()))


def test_the_same_settings_find_the_same_tokens_and_others_make_new_ones(stored, renderer, tmp_path, monkeypatch):
    path = stored(*(pair(i) for i in range(10)))
    first = prepare(path, renderer, spec(), tmp_path / "tokens")
    others = [spec(seed=2), spec(max_length=100), spec(eval_fraction=0.3)]
    assert len({first.key, *(prepare(path, renderer, other, tmp_path / "tokens").key for other in others)}) == 4
    monkeypatch.setattr(tokens, "_make", None)
    assert prepare(path, renderer, spec(), tmp_path / "tokens") == first


def test_an_interrupted_preparation_is_made_again(stored, renderer, tmp_path, monkeypatch):
    path = stored(*(pair(i) for i in range(10)))

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(tokens, "write_json", killed)
        with pytest.raises(KeyboardInterrupt):
            prepare(path, renderer, spec(), tmp_path / "tokens")
    assert list((tmp_path / "tokens").iterdir()) == []
    assert prepare(path, renderer, spec(), tmp_path / "tokens").counts["train_rows"] == 8


def test_a_preparation_that_another_process_finished_first_is_taken(stored, renderer, tmp_path, monkeypatch):
    path = stored(*(pair(i) for i in range(10)))
    first = prepare(path, renderer, spec(), tmp_path / "tokens")
    real = tokens._make

    def race(folder, *rest):
        real(folder, *rest)
        os.rename(tmp_path / "away", tmp_path / "tokens" / first.key)

    os.rename(tmp_path / "tokens" / first.key, tmp_path / "away")
    monkeypatch.setattr(tokens, "_make", race)
    assert prepare(path, renderer, spec(), tmp_path / "tokens") == first


def test_the_oldest_preparations_are_forgotten(stored, renderer, tmp_path, monkeypatch):
    monkeypatch.setattr(tokens, "KEPT_PREPARATIONS", 2)
    path = stored(*(pair(i) for i in range(10)))
    keys = [prepare(path, renderer, spec(seed=seed), tmp_path / "tokens").key for seed in range(4)]
    assert {folder.name for folder in (tmp_path / "tokens").iterdir()} == set(keys[2:])


def test_held_out_rows_are_in_no_file(stored, renderer, tmp_path):
    path = stored(*(pair(i) | {"split": "test" if i < 3 else "train"} for i in range(10)))
    made = prepare(path, renderer, spec(), tmp_path / "tokens")
    assert made.test_indices == [0, 1, 2] and not set(made.eval_indices) & {0, 1, 2}
    assert made.counts["train_rows"] + made.counts["eval_rows"] == 7
    stored_rows = [*pq.read_table(made.train_path).to_pylist(), *pq.read_table(made.eval_path).to_pylist()]
    texts = " ".join("".join(renderer.texts(row["input_ids"])) for row in stored_rows)
    assert "question 5" in texts and not any(f"question {i}" in texts for i in range(3))


def test_without_an_evaluation_share_there_is_no_file(stored, renderer, tmp_path):
    made = prepare(stored(pair(1), pair(2)), renderer, spec(eval_fraction=0.0), tmp_path / "tokens")
    assert made.eval_path is None and made.eval_indices == [] and made.counts["train_rows"] == 2


def test_rows_whose_answer_is_cut_away_are_left_out_and_counted(stored, renderer, tmp_path):
    long = {"prompt": "word " * 100, "completion": "never seen"}
    path = stored(pair(1), pair(2), long, pair(3, "word " * 80))
    made = prepare(path, renderer, spec(max_length=64, eval_fraction=0.0), tmp_path / "tokens")
    assert made.counts["left_out"] == {"row_nothing_trained": 1}
    assert (made.counts["train_rows"], made.counts["cut_rows"], made.counts["cut_answers"]) == (3, 1, 1)
    assert made.counts["longest_row_tokens"] == 64 and made.counts["cut_answers_share"] == pytest.approx(
        1 / 3, abs=1e-3
    )


def test_a_dataset_of_which_nothing_is_trained_is_refused(stored, renderer, tmp_path):
    with pytest.raises(ProblemError) as caught:
        prepare(stored(pair("x " * 100)), renderer, spec(max_length=16), tmp_path / "tokens")
    assert [item.code for item in caught.value.problems] == ["data_no_trained_tokens", "row_nothing_trained"]


def test_rows_of_the_wrong_kind_are_refused(stored, renderer, tmp_path):
    with pytest.raises(ProblemError) as caught:
        prepare(stored(choice(1)), renderer, spec(), tmp_path / "tokens")
    assert caught.value.problems[0].code == "data_rows_do_not_fit"


FACTS = {"parameters": 1000, "linear_shapes": [{"name": "a.q_proj", "in": 10, "out": 20}], "context_length": 2048}


def test_the_plan_counts_what_the_library_will_do(stored, renderer, tmp_path):
    made = prepare(stored(*(pair(i) for i in range(30))), renderer, spec(), tmp_path / "tokens")
    numbers = plan(spec(), made, FACTS)
    assert (numbers["train_rows"], numbers["eval_rows"], numbers["steps_per_epoch"]) == (24, 6, 3)
    assert (numbers["trainable"], numbers["parameters"]) == (16 * 30, 1000)
    assert numbers["problems"] == numbers["warnings"] == []


def test_rows_longer_than_the_models_context_are_a_problem(stored, renderer, tmp_path):
    made = prepare(stored(*(pair(i) for i in range(30))), renderer, spec(), tmp_path / "tokens")
    said = plan(spec(), made, {**FACTS, "context_length": 20})["problems"][0]
    assert said["code"] == "spec_longer_than_context" and said["field"] == "data.max_length"


def test_a_template_that_never_ends_a_turn_is_a_warning(stored, renderer, tmp_path):
    made = prepare(stored(*(pair(i) for i in range(30))), renderer, spec(), tmp_path / "tokens")
    assert plan(spec(), made, {**FACTS, "marks_turn_end": False})["warnings"][0]["code"] == "no_turn_end"


def test_an_optimiser_made_for_another_device_is_a_warning(stored, renderer, tmp_path):
    made = prepare(stored(*(pair(i) for i in range(30))), renderer, spec(), tmp_path / "tokens")
    paged = spec().model_copy(update={"training": spec().training.model_copy(update={"optimizer": "paged_adamw"})})
    told = {kind: plan(paged, made, {**FACTS, "device": kind})["warnings"] for kind in ("cuda", "cpu")}
    assert [[one["code"] for one in told[kind]] for kind in told] == [[], ["optimizer_not_at_home"]]


@pytest.mark.parametrize(
    ("rate", "codes"),
    [(5e-4, []), (5e-3, []), (5.1e-3, ["rate_far_above"]), (5e-5, []), (4.9e-5, ["rate_far_below"])],
)
def test_a_learning_rate_ten_times_off_what_is_usual_is_a_warning(stored, renderer, tmp_path, rate, codes):
    made = prepare(stored(*(pair(i) for i in range(30))), renderer, spec(), tmp_path / "tokens")
    asked = spec().model_copy(update={"training": spec().training.model_copy(update={"learning_rate": rate})})
    told = plan(asked, made, FACTS)["warnings"]
    assert [one["code"] for one in told] == codes
    assert {one["values"]["usual"] for one in told} <= {"0.0005"}


@pytest.mark.parametrize("seed", range(3))
def test_packing_is_counted_as_the_library_packs(seed):
    import random

    from datasets import Dataset
    from trl import pack_dataset

    draw = random.Random(seed)
    counts = [draw.randint(1, 60) for _ in range(1200)]
    rows = Dataset.from_dict(
        {"input_ids": [[1] * count for count in counts], "labels": [[1] * count for count in counts]}
    )
    assert packed_sequences(counts, 64) == len(pack_dataset(rows, seq_length=64, strategy="bfd"))


def test_rows_of_a_second_dataset_are_mixed_in_up_to_their_share(stored, renderer, tmp_path):
    main = stored(*(pair(i) for i in range(40)))
    second = stored(*(pair(100 + i) for i in range(60)), {**pair(999), "split": "test"})
    given = spec(mix_in="second", mix_in_share=0.25)
    made = prepare(main, renderer, given, tmp_path / "tokens", mixed_in=second)
    alone = prepare(main, renderer, spec(), tmp_path / "tokens")
    again = prepare(main, renderer, given, tmp_path / "other", mixed_in=second)
    rows = [tuple(ids) for ids in pq.read_table(made.train_path)["input_ids"].to_pylist()]
    before = [tuple(ids) for ids in pq.read_table(alone.train_path)["input_ids"].to_pylist()]
    added = made.counts["mixed_in_rows"]
    assert rows[: len(before)] == before and len(rows) == len(before) + added
    assert added == round(len(before) / 3) and alone.counts["mixed_in_rows"] == 0
    assert made.train_path.read_bytes() == again.train_path.read_bytes() and made.key != alone.key
    assert made.eval_indices == alone.eval_indices
    assert not any("999" in "".join(renderer.texts(row)).replace(" ", "") for row in rows)


def test_texts_and_conversations_are_pre_trained_together(stored, renderer, tmp_path):
    texts = stored(*({"text": f"the {i}th text"} for i in range(10)))
    talks = stored(*(pair(i) for i in range(10)))
    made = prepare(texts, renderer, spec("pretrain", mix_in="talks", mix_in_share=0.5), tmp_path, mixed_in=talks)
    table = pq.read_table(made.train_path).to_pylist()
    assert made.counts["mixed_in_rows"] == 8
    assert all(row["labels"] == row["input_ids"] for row in table) and len(table) == 16


def test_labels_that_cannot_be_learned_stand_in_the_plan_before_the_start(stored, renderer, tmp_path):
    def labelled(place, label):
        return {**pair(place), "completion": label}

    one = prepare(stored(*(labelled(i, "only") for i in range(20))), renderer, spec("classify"), tmp_path / "one")
    assert [item["code"] for item in plan(spec("classify"), one, FACTS)["problems"]] == ["data_label_count"]
    many = prepare(
        stored(*(labelled(i, f"label {i}") for i in range(20))), renderer, spec("classify"), tmp_path / "many"
    )
    told = plan(spec("classify"), many, FACTS)
    assert told["problems"] == []
    (unknown,) = [item for item in told["warnings"] if item["code"] == "labels_unknown"]
    assert unknown["values"] == {"rows": many.counts["eval_rows"]}


def test_the_length_of_a_row_is_that_of_its_ids_alone(tmp_path):
    row = {"input_ids": [1, 2, 3], "labels": [-100, 2, 3], "prompt": [True, False, False], "task_type": "greeting"}
    pq.write_table(pyarrow.Table.from_pylist([row]), tmp_path / "rows.parquet")
    assert lengths(tmp_path / "rows.parquet") == [3]
