"""Files are recognised by what is in them and read to the last byte, or refused with a reason."""

from __future__ import annotations

import io
import json
import os
import pickle
import tracemalloc
import zipfile

import pyarrow
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from engine.data import reading_json
from engine.data.files import open_rows
from engine.specs.problem import Problem, ProblemError

A, B = {"prompt": "one", "completion": "1"}, {"prompt": "two", "completion": "2"}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "upload"


def read(path, content=None, name=None):
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with open_rows(path, source_name=name) as source:
        return source, list(source.rows)


def rows(path, content):
    return [raw for _, raw in read(path, content)[1]]


def refusal(path, content=None):
    with pytest.raises(ProblemError) as caught:
        read(path, content)
    return caught.value.problems[0]


def zipped(parts):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return packed.getvalue()


def lines(*values):
    return "".join(json.dumps(value) + "\n" for value in values)


@pytest.mark.parametrize(
    ("content", "container"),
    [
        (lines(A, B), "jsonl"),
        (lines(A, B).strip(), "jsonl"),
        ("\n\n" + lines(A) + "\n  \n" + lines(B) + "\n", "jsonl"),
        (lines(A, B).replace("\n", "\r\n"), "jsonl"),
        (lines(A, B).replace("\n", "\r"), "jsonl"),
        ("\ufeff" + lines(A, B), "jsonl"),
        (json.dumps([A, B]), "json"),
        (json.dumps([A, B], indent=2), "json"),
        (" \n[" + lines(A).strip() + ",\n" + lines(B).strip() + "]\n", "json"),
        (json.dumps({"data": [A, B]}), "json"),
        (json.dumps({"version": "1", "rows": [A, B]}, indent=1), "json"),
        (json.dumps(A, indent=2) + "\n" + json.dumps(B, indent=2), "json"),
        ("prompt,completion\none,1\ntwo,2\n", "csv"),
        ("prompt;completion\r\none;1\r\ntwo;2", "csv"),
        ("prompt\tcompletion\none\t1\ntwo\t2\n", "csv"),
        ("prompt|completion\none|1\ntwo|2\n", "csv"),
        ("\ufeffprompt,completion\none,1\n\ntwo,2\n", "csv"),
    ],
)
def test_the_same_rows_come_out_of_every_container(path, content, container):
    source, found = read(path, content)
    assert source.container == container
    assert [raw for _, raw in found] == [A, B]


@pytest.mark.parametrize("coding", ["utf-16", "utf-32"])
def test_marked_utf_16_and_32_are_converted_and_it_is_said(path, coding):
    source, found = read(path, lines({"x": "水😀"}).encode(coding))
    assert found[0][1] == {"x": "水😀"}
    assert source.warnings[0].code == "file_converted"


def test_a_single_object_is_one_row(path):
    assert rows(path, json.dumps(A, indent=2)) == [A]
    conversation = {"messages": [{"role": "user", "content": "x"}]}
    assert rows(path, json.dumps(conversation, indent=2)) == [conversation]


def test_line_separators_of_unicode_do_not_cut_a_row(path):
    content = json.dumps({"x": "a\u2028b\u0085c\x1cd"}, ensure_ascii=False)
    assert rows(path, content + "\n" + content)[1] == {"x": "a\u2028b\u0085c\x1cd"}


def test_a_broken_line_is_a_problem_and_the_others_are_rows(path):
    _, found = read(path, lines(A) + '{"prompt": "x",\n' + "[1]\n" + lines(B))
    assert [(line, raw.code) for line, raw in found if isinstance(raw, Problem)] == [
        (2, "row_not_json"),
        (3, "row_not_object"),
    ]
    assert [line for line, raw in found if not isinstance(raw, Problem)] == [1, 4]


def test_a_broken_first_line_does_not_hide_the_rows(path):
    _, found = read(path, "hello\n" + lines(A, B))
    assert found[0][1].code == "row_not_json" and [raw for _, raw in found[1:]] == [A, B]


def test_a_huge_line_is_a_problem_in_little_memory(path, monkeypatch):
    monkeypatch.setattr(reading_json, "MAX_ROW_BYTES", 1000)
    with path.open("wb") as handle:
        handle.write(lines(A).encode() + b'{"x": "')
        for _ in range(3000):
            handle.write(b"y" * 10_000)
        handle.write(b'"}\n' + lines(B).encode())
    tracemalloc.start()
    _, found = read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [raw.code if isinstance(raw, Problem) else raw for _, raw in found] == [A, "row_too_long", B]
    assert peak < 20_000_000


def test_a_large_array_is_read_in_little_memory(path):
    text = json.dumps([{**A, "pad": "x" * 2000}] * 10_000)
    path.write_text(text)
    tracemalloc.start()
    with open_rows(path) as source:
        count = sum(1 for _ in source.rows)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 10_000 and peak < 15_000_000


@pytest.mark.parametrize(
    "content", ["[" + json.dumps(A) + ", {", "[" + json.dumps(A), '[{"a": 1} {"b": 2}]', "[1, 2,]", "{\n 'a': 1}"]
)
def test_broken_json_says_on_which_line(path, content):
    said = refusal(path, content)
    assert said.code == "file_json_broken" and said.where.line >= 1


def test_an_array_of_other_things_names_them(path):
    assert [raw.code for raw in rows(path, "[1, [2], null]")] == ["row_not_object"] * 3


def test_bad_elements_of_an_array_stop_it_with_a_name(path):
    assert refusal(path, '[{"a": 1, "a": 2}]').code == "row_duplicate_key"
    assert refusal(path, "[" + "[" * 100_000).code == "row_too_deep"


@pytest.mark.parametrize("content", [b"", b" \n\n\t ", b"\xef\xbb\xbf", b"\xef\xbb\xbf\n"])
def test_nothing_is_called_empty(path, content):
    assert refusal(path, content).code == "file_empty"


@pytest.mark.parametrize(
    ("content", "line", "offset", "byte"),
    [
        (lines(A).encode() + b'{"x": "caf\xe9"}\n', 2, len(lines(A)) + 10, "0xE9"),
        (b"prompt,completion\nna\xefve,1\n", 2, 20, "0xEF"),
        (b'{"x": "' + b"y" * (1 << 20) + b'\xff"}', 1, (1 << 20) + 7, "0xFF"),
        (b'{"x": 1}\n\xe6\xb0', 2, 9, "0xE6"),
    ],
)
def test_other_codings_are_refused_with_the_first_bad_byte(path, content, line, offset, byte):
    said = refusal(path, content)
    assert said.code == "file_not_utf8"
    assert (said.where.line, said.values["offset"], said.values["byte"]) == (line, offset, byte)


def test_unmarked_utf_16_is_named(path):
    assert refusal(path, lines(A, B).encode("utf-16-le")).code == "file_utf16_unmarked"


def test_false_byte_order_marks_are_named(path):
    assert refusal(path, b"\xff\xfe\x00\xd8").code == "file_bad_coding"


@pytest.mark.parametrize(
    ("content", "guess"),
    [
        (pickle.dumps({"a": 1}), "pickle"),
        (zipped({"a.jsonl": lines(A)}), "ZIP"),
        (zipped({"xl/workbook.xml": "<x/>"}), "Excel"),
        (zipped({"archive/data.pkl": pickle.dumps(1)}), "ZIP"),
        (b"\x93NUMPYrest", "NumPy"),
        (b"FEA1rest", "Feather 1"),
        (b"\x28\xb5\x2f\xfdrest", "Zstandard"),
        (b"\x89PNG\r\n", "PNG"),
        (b"x" * 257 + b"ustar", "tar"),
        (b'\x40\0\0\0\0\0\0\0{"__metadata__": {}}', "safetensors"),
    ],
)
def test_other_kinds_of_files_are_refused_by_content(path, content, guess):
    assert refusal(path, content).values["guess"] == guess


def test_prose_is_no_table(path):
    assert refusal(path, "Once upon a time\nthere was, perhaps,\na file\n").code == "file_unknown_shape"


def test_a_wrong_ending_is_a_warning(path):
    source, found = read(path, lines(A), name="rows.csv")
    assert source.warnings[0].values == {"ending": "csv", "found": "jsonl"} and found[0][1] == A
    assert read(path, lines(A), name="rows.jsonl")[0].warnings == ()
    assert read(path, lines(A), name="no ending")[0].warnings == ()


def test_links_folders_and_pipes_are_not_opened(tmp_path, path):
    path.write_text(lines(A))
    (tmp_path / "link").symlink_to(path)
    os.mkfifo(tmp_path / "pipe")
    assert refusal(tmp_path / "link").code == "file_unreadable"
    assert refusal(tmp_path / "gone").code == "file_unreadable"
    assert refusal(tmp_path / "pipe").code == "file_not_regular"


def test_a_file_beyond_the_limit_is_refused_before_it_is_read(path, monkeypatch):
    monkeypatch.setenv("ATELIER_MAX_FILE_BYTES", "10")
    assert refusal(path, lines(A)).code == "file_too_large"


def test_csv_keeps_quotes_commas_and_newlines_in_cells(path):
    content = 'prompt,completion\n"a ""b"", c\nd",=1+1\n\'x,"  y "\n'
    assert read(path, content)[1] == [
        (2, {"prompt": 'a "b", c\nd', "completion": "=1+1"}),
        (4, {"prompt": "'x", "completion": "  y "}),
    ]


def test_ragged_rows_are_problems_with_both_widths(path):
    _, found = read(path, "a,b\n1,2\n1,2,3\n1\n3,4\n")
    assert [(line, dict(raw.values)) for line, raw in found if isinstance(raw, Problem)] == [
        (3, {"given": 3, "expected": 2}),
        (4, {"given": 1, "expected": 2}),
    ]


def test_an_open_quote_is_a_problem(path):
    _, found = read(path, 'a,b\n1,2\n"1,2\n')
    assert found[-1][1].code == "row_bad_csv"


@pytest.mark.parametrize("header", ["a,a", "a,", "a,b,"])
def test_columns_need_names_of_their_own(path, header):
    assert refusal(path, f"{header}\n" + ",".join("1" * (header.count(",") + 1)) + "\n").code == "file_bad_header"


def test_a_header_alone_has_no_rows(path):
    assert rows(path, "prompt,completion\n") == []


def test_parquet_gives_its_texts_and_messages_and_leaves_bytes_out(path):
    messages = [[{"role": "user", "content": "Q"}]]
    pq.write_table(pyarrow.table({"messages": messages, "blob": [b"\x00"], "n": [1]}), path)
    source, found = read(path)
    assert (source.container, source.place) == ("parquet", "row")
    assert found == [(1, {"messages": messages[0], "n": 1})]


def test_parquet_without_text_and_broken_parquet_are_refused(path):
    pq.write_table(pyarrow.table({"blob": [b"\x00"]}), path)
    assert refusal(path).code == "file_no_text_columns"
    assert refusal(path, path.read_bytes()[:-20]).code == "file_parquet_broken"
    assert refusal(path, b"PAR1" + b"\x00" * 40).code == "file_parquet_broken"


pieces = st.sampled_from(
    [
        b"{",
        b"}",
        b"[",
        b"]",
        b'"',
        b":",
        b",",
        b"\n",
        b"\r",
        b"\\",
        b"a",
        b"1",
        b"null",
        b"\xff",
        b"\x00",
        b" ",
        b"\t",
        b'{"a":1}\n',
        b"a,b\n",
        b"\xef\xbb\xbf",
        b"\xff\xfe",
        b"PAR1",
    ]
)


@given(st.lists(pieces, max_size=30).map(b"".join))
@example(content=b"\n{")
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_end_in_rows_or_problems(path, content):
    path.write_bytes(content)
    try:
        with open_rows(path) as source:
            for line, raw in source.rows:
                assert line >= 1 and isinstance(raw, dict | Problem)
    except ProblemError as error:
        assert error.problems
