"""What is longer than it may be is cut, left out or split, and nothing of it goes in silence."""

from __future__ import annotations

import json

import pyarrow.parquet as pq
import pytest

from engine.data.plan import plan
from engine.data.render import Renderer
from engine.data.rendered import Rendered
from engine.data.room import Room
from engine.data.rows import RowWriter
from engine.data.tokens import prepare
from engine.models.loading import load_tokenizer
from engine.specs.job import parse
from engine.specs.problem import ProblemError

END = "<|im_end|>"


@pytest.fixture(scope="module")
def renderer(starter):
    return Renderer(load_tokenizer(starter))


def talk(*texts):
    return [{"role": ("user", "assistant")[place % 2], "content": text} for place, text in enumerate(texts)]


def words(count, word="word"):
    return " ".join([word] * count)


def kept(renderer, rendered):
    """The kept tokens' text, and that of the trained ones."""
    columns = rendered.sft_columns()
    pairs = zip(columns["input_ids"], columns["labels"], strict=True)
    return "".join(renderer.texts(columns["input_ids"])), "".join(
        renderer.texts([token for token, label in pairs if label == token])
    )


@pytest.fixture
def stored(tmp_path):
    def one(kind, *rows):
        with RowWriter(tmp_path / "rows.parquet", kind) as writer:
            for row in rows:
                writer.add({**row, "split": "train"})
        folder = tmp_path / writer.sha256
        folder.mkdir()
        return (tmp_path / "rows.parquet").rename(folder / "rows.parquet")

    return one


def spec(kind="sft", objective=None, **data):
    return parse(
        {
            "data": {"dataset": "d", "eval_fraction": 0.0, **data},
            "objective": {"kind": kind, **(objective or {})},
            "tuner": {"kind": "lora"},
            "training": {"learning_rate": 1e-4},
        }
    )


def test_without_its_start_a_row_keeps_its_last_answer_whole(renderer):
    (rendered,) = renderer.conversation(talk("first", words(30), "second", "the end"))
    (one,) = rendered.fit(Room(40, "cut_start"))
    text, trained = kept(renderer, one)
    assert one.num_kept == 40 and text.endswith(f"the end{END}\n")
    assert trained == f"the end{END}" and (one.answers_cut, one.truncated) == (1, len(rendered.ids) - 40)
    states = [token["state"] for token in one.view()[0]["tokens"]]
    assert states[: one.truncated] == ["cut"] * one.truncated and "cut" not in states[one.truncated :]


def test_a_row_of_one_answer_without_its_start_teaches_nothing(renderer):
    (rendered,) = renderer.conversation(talk("q", words(50)))
    assert not rendered.fit(Room(20, "cut_start"))[0].usable


def test_a_long_conversation_is_divided_where_turns_are_over(renderer):
    (rendered,) = renderer.conversation(talk("one", words(12), "two", words(12), "three", words(12)))
    parts = rendered.fit(Room(len(rendered.ids) // 2, "split"))
    assert len(parts) == 3 and [part.part for part in parts] == [0, 1, 2]
    assert sum((part.ids for part in parts), ()) == rendered.ids
    assert [kept(renderer, part)[1] for part in parts] == [words(12) + END] * 3
    assert all("".join(part.texts).startswith("<|im_start|>") for part in parts)


@pytest.mark.parametrize("length", [16, 17, 40, 64, 1000])
def test_no_token_of_a_text_is_lost_and_no_part_is_too_long(renderer, length):
    rendered = renderer.document(words(100, "A wórd"))
    parts = rendered.fit(Room(length, "split"))
    assert sum((part.ids for part in parts), ()) == rendered.ids
    assert max(len(part.ids) for part in parts) <= length
    assert rendered.ids[-1] == 2 and all(all(part.trained) for part in parts)


def test_borders_are_only_used_where_they_fit():
    row = Rendered(tuple(range(10)), (True,) * 10, 10, None, borders=(2, 4, 9))  # type: ignore[arg-type]
    assert [part.ids for part in row.fit(Room(3, "split"))] == [(0, 1), (2, 3), (4, 5, 6), (7, 8, 9)]


def test_pairs_lose_the_start_of_their_prompt_or_go_but_are_never_split(renderer):
    prompt = talk(words(50) + " last")
    pair = renderer.preference(prompt, talk("", "good one")[1:], talk("", "bad")[1:])
    (one,) = pair.fit(Room(20, "cut_start"))
    columns = one.dpo_columns()
    assert "last" in "".join(renderer.texts(columns["prompt_ids"])) and columns["chosen_ids"] == list(pair.chosen_all)
    assert len(columns["prompt_ids"]) + len(columns["chosen_ids"]) == 20 == one.longest
    assert one.usable and one.answers_cut == 0 and one.truncated == 2 * (len(pair.prompt) - len(columns["prompt_ids"]))
    assert [view["num_cut"] for view in one.view()] == [one.first, one.first]
    (gone,) = pair.fit(Room(20, "drop"))
    assert gone.too_long and not gone.usable
    with pytest.raises(ProblemError) as caught:
        pair.fit(Room(20, "split"))
    assert caught.value.problems[0].code == "objective_cannot_split"
    with pytest.raises(ProblemError) as caught:
        spec("dpo", truncation="split")
    assert caught.value.problems[0].code == "objective_cannot_split"


LONG = {"messages": talk("a", words(20), "b", words(200), "c", "short")}
SHORT = {"messages": talk("a", "b")}
FACTS = {"parameters": 1000, "linear_shapes": [], "context_length": 2048}


@pytest.mark.parametrize(
    ("truncation", "sequences", "left_out", "counts", "warnings"),
    [
        ("auto", 2, {}, {"cut_rows": 1, "cut_answers": 2, "cut_answers_share": 0.5, "split_rows": 0}, ["rows_cut"]),
        ("cut_start", 2, {}, {"cut_rows": 1, "cut_answers": 2, "split_rows": 0}, ["rows_cut"]),
        ("drop", 1, {"row_tokens_too_long": 1}, {"cut_rows": 0, "split_rows": 0}, ["rows_tokens_too_long"]),
        ("split", 6, {}, {"cut_rows": 0, "cut_answers": 0, "split_rows": 1, "answers": 4}, ["rows_split"]),
    ],
)
def test_each_way_is_counted_and_told(stored, renderer, tmp_path, truncation, sequences, left_out, counts, warnings):
    chosen = spec(truncation=truncation, max_length=64)
    made = prepare(stored("conversation", LONG, SHORT), renderer, chosen, tmp_path / "tokens")
    assert made.counts["train_sequences"] == sequences and made.counts["left_out"] == left_out
    assert {name: made.counts[name] for name in counts} == counts
    told = plan(chosen, made, FACTS)["warnings"]
    assert [one["code"] for one in told if one["code"] != "rows_below_batch"] == warnings
    assert max(len(row["input_ids"]) for row in pq.read_table(made.train_path).to_pylist()) <= 64
    if truncation == "auto":
        assert next(one for one in told if one["code"] == "rows_cut")["values"]["percent"] == 50.0


def test_parts_in_which_nothing_is_trained_are_left_out_and_told(stored, renderer, tmp_path):
    chosen = spec(truncation="split", max_length=64)
    path = stored("conversation", {"messages": talk(words(100), "yes")})
    made = prepare(path, renderer, chosen, tmp_path / "tokens")
    assert made.counts["train_sequences"] == 1 and made.counts["unused_parts"] >= 1
    assert "parts_unused" in {one["code"] for one in plan(chosen, made, FACTS)["warnings"]}


def test_texts_are_split_unless_something_else_is_chosen(stored, renderer, tmp_path):
    path = stored("text", {"text": words(100)}, {"text": "short"})
    for truncation, sequences in (("auto", 3), ("cut_end", 2), ("drop", 1)):
        made = prepare(path, renderer, spec("pretrain", truncation=truncation, max_length=64), tmp_path / "tokens")
        assert made.counts["train_sequences"] == sequences
        rows = pq.read_table(made.train_path).to_pylist()
        assert all(row["labels"] == row["input_ids"] for row in rows)


def test_only_flagged_answers_are_trained_or_every_token(stored, renderer, tmp_path):
    flagged = talk("a", "one", "b", "two", "c", "three")
    flagged[3]["train"], flagged[5]["train"] = True, False
    path = stored("conversation", {"messages": flagged}, SHORT)

    def trained(**objective):
        made = prepare(path, renderer, spec(objective=objective), tmp_path / "tokens")
        rows = pq.read_table(made.train_path).to_pylist()
        return ["".join(renderer.texts([label for label in row["labels"] if label >= 0])) for row in rows], made.counts

    assert trained() == (pytest.approx([f"one{END}two{END}", f"b{END}"]), trained()[1])
    only, counts = trained(train_on="flagged")
    assert only == [f"two{END}"] and counts["left_out"] == {"row_nothing_trained": 1}
    whole, _ = trained(train_on="flagged", train_on_prompt=True)
    assert len(whole) == 1 and whole[0].startswith("<|im_start|>system") and whole[0].endswith(f"three{END}\n")


def test_tools_reach_the_tokens_and_a_template_without_them_is_told(stored, renderer, tmp_path):
    call = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    asked = {"role": "assistant", "content": "", "tool_calls": json.dumps([call])}
    row = {"messages": [*talk("Nice?"), asked], "tools": json.dumps([{"function": {"name": "weather"}}])}
    chosen = spec()
    made = prepare(stored("conversation", row, SHORT), renderer, chosen, tmp_path / "tokens")
    assert made.counts["left_out"] == {"row_template_drops_tools": 1}
    assert "rows_template_drops_tools" in {one["code"] for one in plan(chosen, made, FACTS)["warnings"]}
