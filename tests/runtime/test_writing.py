"""Versions written as files: what others read in them, and that they can be imported again."""

from __future__ import annotations

import csv
import json

import pyarrow.parquet as pq
import pytest

from engine.data.importer import store_rows
from engine.data.rows import RowWriter, iterate_rows, kind_of
from engine.data.writing import WRITERS
from engine.runtime.writing import file_stem
from engine.specs.versions import WRITTEN_AS
from storage import datasets
from tests.data.doctor.making import judged, pair, say, varied


@pytest.fixture
def written(tmp_path):
    """Write rows in a form; gives the file and what was said."""

    def write(form, rows):
        source = tmp_path / "rows.parquet"
        with RowWriter(source, kind_of(rows[0])) as writer:
            for one in rows:
                writer.add(one)
        target = tmp_path / f"out.{form}"
        return target, WRITERS[form](source, target, lambda _: None)

    return write


def test_the_forms_are_those_that_a_spec_can_name():
    assert set(WRITERS) == set(WRITTEN_AS)


def test_lines_of_json_hold_what_is_there_and_nothing_empty(written):
    calls = json.dumps([{"function": {"name": "sky", "arguments": {}}}])
    turns = [say("user", "Sun?\n=1+1"), say("assistant", "", calls), say("tool", "clear"), say("assistant", "Yes.")]
    path, said = written("jsonl", [{"messages": turns, "tools": '[{"name": "sky"}]', "split": "test", "group": "x"}])
    (line,) = path.read_text().splitlines()
    found = json.loads(line)
    assert found["tools"] == [{"name": "sky"}] and found["split"] == "test" and "task_type" not in found
    assert found["messages"][0] == {"role": "user", "content": "Sun?\n=1+1"}
    assert found["messages"][1]["tool_calls"] == json.loads(calls)
    assert (said.rows, said.defused) == (1, 0)


def test_written_lines_can_be_imported_again_with_the_same_rows(written, tmp_path):
    rows = [*varied(20), *varied(3, split="test")]
    path, _ = written("jsonl", rows)
    stored = store_rows(path, tmp_path)
    assert (stored.inspection.usable_rows, stored.inspection.problem_count) == (23, 0)
    assert list(iterate_rows(stored.path)) == list(iterate_rows(tmp_path / "rows.parquet"))


def test_cells_that_a_spreadsheet_would_compute_are_defused_and_counted(written):
    texts = ["=HYPERLINK('x')", "+1", "-1", "@now", "\tx", "plain", "2 - 1 = 1"]
    path, said = written("csv", [{"text": text} for text in texts])
    with path.open(newline="") as file:
        cells = [one["text"] for one in csv.DictReader(file)]
    assert cells == [f"'{text}" for text in texts[:5]] + texts[5:]
    assert (said.rows, said.defused) == (7, 5)


def test_messages_are_json_in_their_cell(written):
    path, said = written("csv", [pair("=Why?", 'So,\n"so".', "No.", task_type="=x"), pair("How?", "So.", "No.")])
    with path.open(newline="") as file:
        first, second = csv.DictReader(file)
    assert json.loads(first["prompt"]) == [{"role": "user", "content": "=Why?"}]
    assert json.loads(first["chosen"])[0]["content"] == 'So,\n"so".'
    assert (first["task_type"], second["task_type"], said.defused) == ("'=x", "", 1)


def test_labels_and_scores_are_values(written):
    path, _ = written("csv", [judged("Why?", "So.", True, score=-0.5)])
    with path.open(newline="") as file:
        (found,) = csv.DictReader(file)
    assert (found["label"], found["score"]) == ("true", "-0.5")


def test_parquet_is_the_stored_file(written, tmp_path):
    path, said = written("parquet", varied(3))
    assert path.read_bytes() == (tmp_path / "rows.parquet").read_bytes() and said.rows == 3
    assert pq.read_table(path).num_rows == 3


def test_the_child_leaves_a_file_that_can_be_fetched(studio):
    studio.add_rows("rows", varied(3))
    with studio.store.write() as session:
        datasets.rename(session, "rows", "My data / 数据")
        version = datasets.get(session, "My data / 数据")
    data = {"dataset": version.name, "version": version.version, "sha256": version.sha256}
    code, said = studio.run_child("write_data", {"data": data, "form": "csv"})
    assert code == 0, said
    ((file,), path) = said["result"]["files"], said["result"]["path"]
    assert file["name"] == "My_data_数据-1.csv"
    (there,) = studio.home.exports.glob("*/*.csv")
    assert str(there.parent) == path and there.stat().st_size == file["bytes"]


@pytest.mark.parametrize(
    ("name", "stem"), [("../../etc/passwd", "etc_passwd"), ("...", "data"), ("-rf", "rf"), ("a b", "a_b")]
)
def test_a_name_never_leads_out_of_the_folder(name, stem):
    assert file_stem(name) == stem


def test_a_score_below_zero_is_no_formula_and_text_like_it_is(written):
    path, said = written("csv", [judged("Why?", "So.", None, score=-2.0, group="-2")])
    with path.open(newline="") as file:
        (found,) = csv.DictReader(file)
    assert (found["score"], found["group"], said.defused) == ("-2.0", "'-2", 1)
