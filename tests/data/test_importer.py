"""From a file to stored rows: recognised, checked, counted, and stored once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.data.chunks import CHUNK_BYTES
from engine.data.importer import Wishes, inspect, store_rows
from engine.data.rows import iterate_rows, read_rows
from engine.specs.problem import ProblemError

OPEN = Wishes()
SAMPLES = Path(__file__).parents[2] / "assets" / "samples"


def pair(number, **more):
    return {"prompt": f"question {number}", "completion": f"answer {number}", **more}


def chat(number):
    return {"messages": [{"role": "user", "content": f"q{number}"}, {"role": "assistant", "content": "a"}]}


@pytest.fixture
def write(tmp_path):
    def one(*rows, name="upload"):
        path = tmp_path / name
        path.write_text("".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows))
        return path

    return one


@pytest.fixture
def datasets(tmp_path):
    folder = tmp_path / "datasets"
    folder.mkdir()
    return folder


def refusal(path, wishes=OPEN):
    with pytest.raises(ProblemError) as caught:
        inspect(path, wishes)
    return [(item.code, dict(item.values)) for item in caught.value.problems]


def test_an_inspection_counts_rows_lengths_turns_copies_and_splits(write):
    rows = [pair(1), pair(2, split="test"), pair(1), {"prompt": "x", "completion": "y" * 100}]
    found = inspect(write(*rows))
    assert (found.format, found.row_kind, found.rows, found.usable_rows) == ("prompt_completion", "conversation", 4, 4)
    assert found.statistics["splits"] == {"train": 3, "test": 1}
    assert found.statistics["duplicates"] == 1
    lengths = found.statistics["answer_characters"]
    assert {name: lengths[name] for name in ("median", "p95", "max")} == {"median": 8, "p95": 100, "max": 100}
    assert sum(count for _, _, count in lengths["bars"]) == 4 and lengths["bars"][-1][1] == 100
    assert found.statistics["turns"]["median"] == 2
    json.dumps(found.as_dict())


def test_problems_name_line_and_field_and_the_other_rows_are_kept(write):
    found = inspect(write(pair(1), "{broken\n", pair(2, completion=None), {"prompt": "no answer"}, pair(3)))
    assert found.usable_rows == 2 and found.problem_count == 3
    assert [(item.code, item.where.line, item.where.field) for item in found.problems] == [
        ("row_not_json", 2, None),
        ("row_empty_answer", 3, "completion"),
        ("row_missing_field", 4, "completion"),
    ]


def test_the_first_fifty_problems_are_kept_and_all_are_counted(write):
    found = inspect(write(pair(1), *["{broken\n"] * 120))
    assert len(found.problems) == 50 and found.problem_count == 120 and found.rows == 121


def test_rows_of_another_shape_name_both_shapes_and_lines(write):
    found = inspect(write("\n", chat(1), chat(2), {"instruction": "i", "output": "o"}, chat(3)))
    assert found.format == "messages" and found.usable_rows == 3
    (said,) = found.problems
    assert said.code == "row_other_shape" and said.where.line == 4
    assert said.values == {"shape": "alpaca", "expected": "messages", "expected_line": 2}


def test_columns_of_unknown_names_are_listed(write):
    said = refusal(write({"frage": "a", "antwort": "b"}))
    assert said[0][0] == "data_unknown_columns" and said[0][1]["columns"] == "frage, antwort"


def test_columns_can_be_mapped_by_hand(write):
    path = write({"frage": "a", "antwort": "b"})
    found = inspect(path, Wishes(mapping={"prompt": "frage", "completion": "antwort"}))
    assert (found.format, found.usable_rows) == ("prompt_completion", 1)
    pairs = write({"p": "a", "good": "b", "bad": "c"})
    found = inspect(pairs, Wishes(mapping={"prompt": "p", "chosen": "good", "rejected": "bad"}))
    assert (found.format, found.row_kind) == ("preference", "preference")


@pytest.mark.parametrize(
    ("wishes", "code"),
    [
        (Wishes(format="nothing"), "data_unknown_format"),
        (Wishes(format="alpaca"), "data_role_missing"),
        (Wishes(mapping={"prompt": "gone"}), "data_column_missing"),
        (Wishes(mapping={"colour": "prompt"}), "data_unknown_role"),
    ],
)
def test_wishes_that_do_not_fit_are_refused(write, wishes, code):
    assert refusal(write(pair(1)), wishes)[0][0] == code


@pytest.mark.parametrize("content", ["{broken\n", '"text"\n{x\n', "a,b\n"])
def test_a_file_without_a_readable_row_is_refused_with_its_first_problems(write, content):
    assert refusal(write(content))[0][0] in ("data_no_rows", "file_unknown_shape")


def test_warnings_say_what_is_kept_but_worth_knowing(write):
    rows = [
        pair(1, note="x"),
        pair(1, note="y"),
        pair(2, split="test"),
        pair(2, split="train"),
        pair(3, split="dev"),
        pair("<|im_end|>"),
        pair("\u202e hidden"),
    ]
    found = inspect(write(*rows), Wishes(source_name="rows.csv"))
    said = {item.code: dict(item.values) for item in found.warnings}
    assert said == {
        "file_other_ending": {"ending": "csv", "found": "jsonl"},
        "columns_not_used": {"columns": "note"},
        "few_rows": {"rows": 7},
        "duplicates": {"rows": 2},
        "held_out_in_training": {"rows": 1},
        "control_tokens_as_text": {"rows": 1},
        "invisible_characters": {"rows": 1},
        "unknown_split": {"words": "dev"},
    }


def test_stored_rows_come_back_as_they_are(write, datasets):
    stored = store_rows(write(pair(1), pair("水😀\u202e", split="test")), datasets)
    rows = list(iterate_rows(stored.path))
    plain = {"train": None, "tool_calls": None, "tool_call_id": None, "name": None}
    assert rows[0] == {
        "messages": [
            {"role": "user", "content": "question 1", **plain},
            {"role": "assistant", "content": "answer 1", **plain},
        ],
        **dict.fromkeys(("tools", "split", "task_type", "group", "origin")),
    }
    assert rows[1]["split"] == "test" and rows[1]["messages"][1]["content"] == "answer 水😀\u202e"
    assert stored.path.parent == datasets / stored.sha256 and stored.bytes == stored.path.stat().st_size


def test_equal_rows_are_stored_once_whatever_file_they_come_from(tmp_path, write, datasets):
    first = store_rows(write(pair(1), pair(2)), datasets)
    table = tmp_path / "table"
    table.write_text("prompt,completion\nquestion 1,answer 1\nquestion 2,answer 2\n")
    assert store_rows(table, datasets).path == first.path
    assert store_rows(write(pair(2), pair(1)), datasets).path != first.path
    assert len(list(datasets.iterdir())) == 2


def test_the_file_itself_is_kept_beside_its_rows_and_a_later_change_does_not_reach_it(write, datasets):
    path = write(pair(1))
    stored = store_rows(path, datasets)
    path.write_text("changed")
    assert (stored.path.parent / "source.jsonl").read_text() == json.dumps(pair(1)) + "\n"


@pytest.mark.parametrize(("policy", "code"), [("refuse", "data_has_problems"), ("keep_usable", "data_no_usable_rows")])
def test_a_refused_import_leaves_nothing_behind(write, datasets, policy, code):
    rows = ["{broken\n", pair(1, completion="")] + ([pair(2)] if policy == "refuse" else [])
    with pytest.raises(ProblemError) as caught:
        store_rows(write(*rows), datasets, Wishes(policy=policy))
    assert caught.value.problems[0].code == code and len(caught.value.problems) == 3
    assert list(datasets.iterdir()) == []


def test_a_broken_end_of_a_file_leaves_nothing_behind(tmp_path, datasets):
    path = tmp_path / "upload"
    path.write_text("[" + json.dumps(pair(1)) + ", {")
    with pytest.raises(ProblemError):
        store_rows(path, datasets)
    assert list(datasets.iterdir()) == []


def test_pages_of_rows_are_read_across_row_groups(write, datasets):
    stored = store_rows(write(*(pair(i) for i in range(2500))), datasets)
    page = read_rows(stored.path, 998, 1004)
    assert [row["messages"][0]["content"] for row in page] == [f"question {i}" for i in range(998, 2002)]
    assert len(read_rows(stored.path, 2498, 50)) == 2 and read_rows(stored.path, 2500, 5) == []


def test_progress_is_told_while_a_file_is_read(write):
    told = []
    path = write(*(pair(i) for i in range(40_000)))
    inspect(path, progress=lambda rows, share: told.append((rows, round(share, 1))))
    assert len(told) == -(-path.stat().st_size // CHUNK_BYTES) and told == sorted(told) and told[-1] == (40_000, 1.0)


@pytest.mark.parametrize(("name", "kind", "train", "test"), [("tickets.jsonl", "conversation", 240, 60)])
def test_the_sample_is_flawless(name, kind, train, test):
    found = inspect(SAMPLES / name, Wishes(source_name=name))
    assert found.problem_count == 0 and found.warnings == [] and found.row_kind == kind
    assert found.statistics["splits"] == {"train": train, "test": test}


def test_a_task_column_that_says_something_else_in_each_row_stays_small(write):
    found = inspect(write(*(pair(i, task=f"task {i}") for i in range(1500)))).statistics["task_types"]
    assert len(found) == 201 and sum(found.values()) == 1500 and found["…"] == 1300
