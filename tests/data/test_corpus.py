"""Every shape in every container with every defect comes to just what it must; the table of bad inputs is covered."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from engine.data.importer import Wishes, inspect
from engine.specs.problem import ProblemError
from tests.data.corpus import CONTAINERS, SHAPES, Case, cases

TESTS = Path(__file__).parents[1]


def outcome(path: Path, content: bytes, name: str | None = None) -> Case:
    path.write_bytes(content)
    try:
        found = inspect(path, Wishes(source_name=name))
    except ProblemError as error:
        return Case("", b"", refusal=error.problems[0].code)
    problems = tuple((item.code, item.where.line) for item in found.problems)
    return Case("", b"", None, found.format, found.rows, found.usable_rows, problems)


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("shape", SHAPES)
def test_each_file_comes_to_what_it_must(shape, container, tmp_path):
    wrong = {}
    for case in cases(shape, container):
        found = outcome(tmp_path / "upload", case.content, f"rows.{container}")
        wanted = Case("", b"", case.refusal, case.format, case.rows, case.usable, case.problems)
        if found != wanted:
            wrong[case.name] = (found, wanted)
    assert wrong == {}


BAD_INPUTS = {
    "empty file, only blanks, header only": (
        "data/test_files.py::test_nothing_is_called_empty",
        "data/test_files.py::test_a_header_alone_has_no_rows",
    ),
    "few rows": ("data/test_importer.py::test_warnings_say_what_is_kept_but_worth_knowing",),
    "byte order marks, UTF-16 and UTF-32": (
        "data/test_files.py::test_the_same_rows_come_out_of_every_container",
        "data/test_files.py::test_marked_utf_16_and_32_are_converted_and_it_is_said",
        "data/test_files.py::test_unmarked_utf_16_is_named",
    ),
    "other codings": ("data/test_files.py::test_other_codings_are_refused_with_the_first_bad_byte",),
    "CRLF, CR, no last newline, blank lines": ("data/test_files.py::test_the_same_rows_come_out_of_every_container",),
    "line separators of Unicode": ("data/test_files.py::test_line_separators_of_unicode_do_not_cut_a_row",),
    "an array or pretty objects in JSONL": ("data/test_files.py::test_the_same_rows_come_out_of_every_container",),
    "one broken line": (
        "data/test_files.py::test_a_broken_line_is_a_problem_and_the_others_are_rows",
        "data/test_importer.py::test_a_refused_import_leaves_nothing_behind",
    ),
    "huge lines and fields": ("data/test_files.py::test_a_huge_line_is_a_problem_in_little_memory",),
    "deep nests, endless numbers, NaN, keys twice, half characters": (
        "formats/test_strict_json.py::*",
        "data/test_corpus.py::test_each_file_comes_to_what_it_must",
    ),
    "NUL": ("formats/test_formats.py::test_what_is_wrong_with_a_conversation_has_a_name",),
    "invisible characters": ("data/test_importer.py::test_warnings_say_what_is_kept_but_worth_knowing",),
    "not NFC": ("data/test_corpus.py::test_texts_stay_as_they_are_composed",),
    "mixed shapes": ("data/test_importer.py::test_rows_of_another_shape_name_both_shapes_and_lines",),
    "renamed columns": (
        "data/test_importer.py::test_columns_of_unknown_names_are_listed",
        "data/test_importer.py::test_columns_can_be_mapped_by_hand",
    ),
    "numbers for text": ("formats/test_formats.py::test_numbers_are_never_turned_into_text",),
    "wrong roles": ("formats/test_formats.py::test_what_is_wrong_with_a_conversation_has_a_name",),
    "pairs that teach nothing": ("formats/test_formats.py::test_what_is_wrong_with_a_pair_has_a_name",),
    "copies and leaks": ("data/test_importer.py::test_warnings_say_what_is_kept_but_worth_knowing",),
    "control tokens as text": ("data/test_importer.py::test_warnings_say_what_is_kept_but_worth_knowing",),
    "templates in content": ("data/test_corpus.py::test_templates_and_formulas_and_markup_are_only_text",),
    "quotes, newlines, other separators, ragged rows": (
        "data/test_files.py::test_csv_keeps_quotes_commas_and_newlines_in_cells",
        "data/test_files.py::test_ragged_rows_are_problems_with_both_widths",
        "data/test_files.py::test_an_open_quote_is_a_problem",
    ),
    "types of Parquet": (
        "data/test_files.py::test_parquet_gives_its_texts_and_messages_and_leaves_bytes_out",
        "data/test_containers.py::test_a_column_is_left_out_for_its_type_and_not_for_the_names_in_it",
    ),
    "Parquet that swells, extension types": (
        "data/test_corpus.py::test_parquet_is_judged_by_the_size_that_it_states",
        "data/test_corpus.py::test_types_of_other_libraries_are_left_out",
    ),
    "pickles and other binaries": ("data/test_files.py::test_other_kinds_of_files_are_refused_by_content",),
    "packed files and bombs": ("data/test_containers.py::test_packed_files_that_are_not_read_say_why",),
    "files beyond the limit": ("data/test_files.py::test_a_file_beyond_the_limit_is_refused_before_it_is_read",),
    "the same file twice": ("data/test_importer.py::test_equal_rows_are_stored_once_whatever_file_they_come_from",),
    "strange names": ("data/test_corpus.py::test_a_name_is_only_looked_at_for_its_ending",),
    "links, pipes, folders": ("data/test_files.py::test_links_folders_and_pipes_are_not_opened",),
    "bytes of any kind": ("data/test_files.py::test_any_bytes_end_in_rows_or_problems",),
}


@pytest.mark.parametrize("places", BAD_INPUTS.values(), ids=BAD_INPUTS)
def test_each_bad_input_of_the_table_has_a_test(places):
    for place in places:
        file, _, name = place.partition("::")
        tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
        named = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert name == "*" or name in named, place


def only_text(path: Path, text: str, name: str = "rows.csv") -> str:
    path.write_text('prompt,completion\nQ,"' + text.replace('"', '""') + '"\n', encoding="utf-8")
    found = inspect(path)
    assert found.problem_count == 0
    return found.sample[0]["messages"][1]["content"]


@pytest.mark.parametrize("text", ["e\u0301", "\u00e9", "\u212b", "\u1100\u1161"])
def test_texts_stay_as_they_are_composed(tmp_path, text):
    assert only_text(tmp_path / "upload", text) == text


@pytest.mark.parametrize(
    "text", ["{{ 7 * 7 }}", "{% include 'x' %}", '=HYPERLINK("http://x")', "@SUM(1)", "<script>alert(1)</script>"]
)
def test_templates_and_formulas_and_markup_are_only_text(tmp_path, text):
    assert only_text(tmp_path / "upload", text) == text


@pytest.mark.parametrize(
    "name",
    [
        "../../x.jsonl",
        "/etc/passwd",
        "C:\\x.csv",
        "..%2f.jsonl",
        "a\0b.jsonl",
        "x" * 300,
        "😀.jsonl",
        "CON",
        "-rf",
        "a\nb.jsonl",
        "\u202elnosj.exe",
        ".jsonl.exe",
        ".",
    ],
)
def test_a_name_is_only_looked_at_for_its_ending(tmp_path, name):
    path = tmp_path / "upload"
    path.write_text('{"prompt": "Q", "completion": "A"}\n')
    before = sorted(tmp_path.iterdir())
    assert inspect(path, Wishes(source_name=name)).usable_rows == 1
    assert sorted(tmp_path.iterdir()) == before


def test_parquet_is_judged_by_the_size_that_it_states(tmp_path, monkeypatch):
    from engine.data import reading_parquet

    monkeypatch.setattr(reading_parquet, "MAX_UNCOMPRESSED_BYTES", 10)
    content = CONTAINERS["parquet"].write(SHAPES["questions"].rows)
    assert outcome(tmp_path / "upload", content).refusal == "file_too_large"


def test_types_of_other_libraries_are_left_out(tmp_path):
    import pyarrow
    import pyarrow.parquet as pq

    table = pyarrow.table({"prompt": ["Q"], "completion": ["A"], "odd": pyarrow.array([b"0" * 16], pyarrow.uuid())})
    pq.write_table(table, tmp_path / "upload")
    found = inspect(tmp_path / "upload")
    assert found.usable_rows == 1 and "odd" not in found.columns
    assert "odd" in next(item for item in found.warnings if item.code == "columns_left_out").values["columns"]
