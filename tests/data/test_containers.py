"""Packed files, Arrow, documents and folders: the same rows as from a plain file, or a refusal with a reason."""

from __future__ import annotations

import gzip
import io
import itertools
import json
import os
import zipfile

import docx
import pyarrow
import pyarrow.parquet as pq
import pytest
from pyarrow import ipc

from engine.data import folders, reading_documents
from engine.data.files import open_rows
from engine.data.importer import Wishes, inspect, store_rows
from engine.specs.problem import Problem, ProblemError
from tests.data.corpus import pdf

A, B = {"prompt": "one", "completion": "1"}, {"prompt": "two", "completion": "2"}
JSONL = "".join(json.dumps(row) + "\n" for row in (A, B)).encode()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "upload"


def read(path, content=None, name=None):
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with open_rows(path, source_name=name) as source:
        rows = list(source.rows)
        return source, rows


def refusal(path, content=None, name=None):
    with pytest.raises(ProblemError) as caught:
        read(path, content, name)
    return caught.value.problems[0]


def parquet(table):
    made = io.BytesIO()
    pq.write_table(table, made)
    return made.getvalue()


def arrow(table, *, stream=False, **options):
    made = io.BytesIO()
    opening = ipc.new_stream if stream else ipc.new_file
    with opening(made, table.schema, options=ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table, max_chunksize=2)
    return made.getvalue()


def word(*paragraphs, cells=()):
    document = docx.Document()
    for text in paragraphs:
        document.add_paragraph(text)
    if cells:
        table = document.add_table(rows=1, cols=len(cells))
        for cell, text in zip(table.rows[0].cells, cells, strict=True):
            cell.text = text
    made = io.BytesIO()
    document.save(made)
    return made.getvalue()


TABLE = pyarrow.Table.from_pylist([A, B])


@pytest.mark.parametrize(
    ("content", "container"),
    [
        (JSONL, "jsonl.gz"),
        (json.dumps([A, B]).encode(), "json.gz"),
        (b"prompt,completion\none,1\ntwo,2\n", "csv.gz"),
        (parquet(TABLE), "parquet.gz"),
        (arrow(TABLE), "arrow.gz"),
    ],
)
def test_packed_files_give_the_same_rows(path, content, container):
    source, found = read(path, gzip.compress(content), name=f"rows.{container}")
    assert (source.container, list(source.warnings)) == (container, [])
    assert [raw for _, raw in found] == [A, B]


def test_a_packed_file_with_a_padded_end_is_read(path):
    assert [raw for _, raw in read(path, gzip.compress(JSONL) + b"\0" * 512)[1]] == [A, B]


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (gzip.compress(JSONL)[:-9], "file_gzip_broken"),
        (gzip.compress(JSONL)[:-5] + b"xxxxx", "file_gzip_broken"),
        (b"\x1f\x8brest", "file_gzip_broken"),
        (gzip.compress(JSONL) + gzip.compress(JSONL), "file_gzip_members"),
        (gzip.compress(JSONL) + b"more", "file_gzip_members"),
        (gzip.compress(gzip.compress(JSONL)), "file_nested_archive"),
        (gzip.compress(word("text")), "file_nested_archive"),
        (gzip.compress(b"\x80\x04pickle"), "file_binary"),
        (gzip.compress(b""), "file_empty"),
        (gzip.compress(b" \n"), "file_empty"),
        (gzip.compress(b"\n" * (20 * 2**20)), "file_gzip_grows"),
    ],
    ids=itertools.count(),  # the bytes tell the time: as names they would differ from process to process
)
def test_packed_files_that_are_not_read_say_why(path, content, code):
    assert refusal(path, content).code == code


def test_a_packed_file_is_not_unpacked_beyond_the_limit(path, monkeypatch):
    monkeypatch.setenv("ATELIER_MAX_FILE_BYTES", "1000")
    assert refusal(path, gzip.compress(b"x" * 2000)).code == "file_gzip_grows"


@pytest.mark.parametrize("stream", [False, True], ids=["file", "stream"])
@pytest.mark.parametrize("compression", [None, "lz4", "zstd"])
def test_arrow_files_and_streams_are_read(path, stream, compression):
    messages = [[{"role": "user", "content": "Q"}]] * 3
    labels = pyarrow.array(["a", "b", "a"]).dictionary_encode()
    table = pyarrow.table({"messages": messages, "label": labels, "blob": [b"\0"] * 3, "when": [None] * 3})
    source, found = read(path, arrow(table, stream=stream, compression=compression), name="rows.arrow")
    assert (source.container, source.place) == ("arrow", "row")
    assert found[1] == (2, {"messages": messages[0], "label": "b", "when": None}) and len(found) == 3
    assert [(said.code, said.values["columns"]) for said in source.warnings] == [("columns_left_out", "blob (binary)")]


def test_a_column_is_left_out_for_its_type_and_not_for_the_names_in_it(path):
    times = pyarrow.array([0], pyarrow.timestamp("s"))
    table = pyarrow.table({"list": [[{"timestamp": "now", "map": "x"}]], "at": times, "deep": [[{"b": b"x"}]]})
    source, found = read(path, parquet(table))
    assert found == [(1, {"list": [{"timestamp": "now", "map": "x"}]})]
    assert "at (timestamp[ms]), deep (" in source.warnings[0].values["columns"]


@pytest.mark.parametrize("write", [parquet, arrow])
def test_labels_have_the_names_that_the_file_states(path, write):
    stated = {"info": {"features": {"label": {"names": ["bad", "good"], "_type": "ClassLabel"}}}}
    table = pyarrow.table({"text": ["x", "y", "z"], "label": [1, 0, -1]})
    table = table.replace_schema_metadata({"huggingface": json.dumps(stated)})
    assert [raw["label"] for _, raw in read(path, write(table))[1]] == ["good", "bad", None]
    table = table.replace_schema_metadata({"huggingface": '{"info": 3'})
    assert [raw["label"] for _, raw in read(path, write(table))[1]] == [1, 0, -1]


def test_broken_arrow_is_refused(path):
    whole = arrow(TABLE)
    for content in (whole[:-20], whole[:40], b"ARROW1\0\0", b"\xff\xff\xff\xff\x10\0\0\0"):
        assert refusal(path, content).code == "file_arrow_broken"
    offsets = b"\0\0\0\0\x03\0\0\0\x06\0\0\0"
    assert offsets in whole
    assert refusal(path, whole.replace(offsets, offsets[:8] + b"\0\0\xff\x00")).code == "file_arrow_broken"
    twice = pyarrow.Table.from_arrays([pyarrow.array(["a"])] * 2, names=["text", "text"])
    assert refusal(path, arrow(twice)).code == "file_bad_header"


PROSE = "Once upon a time\nthere was, perhaps,\na file.\n\nThe end.\n"


@pytest.mark.parametrize(
    ("content", "name", "container"),
    [
        (PROSE, "story.txt", "txt"),
        (PROSE, "story.MD", "md"),
        ("Hello, world", "note.txt", "txt"),
        ("Title\n\nSome words.\n", "note.txt", "txt"),
        ("[A link](x) and more, and more\n", "note.md", "md"),
        ("| a | b |\n|---|---|\n| 1 | 2 |\n", "table.md", "md"),
        (PROSE.encode("utf-16"), "story.txt", "txt"),
    ],
)
def test_prose_is_one_text_where_its_name_says_so_and_a_warning_tells(path, content, name, container):
    source, found = read(path, content, name)
    assert source.container == container and source.warnings[-1].code == "file_read_as_text"
    text = content.decode("utf-16") if isinstance(content, bytes) else content
    assert found == [(1, {"text": text})]


@pytest.mark.parametrize(
    ("content", "name", "code"),
    [
        (PROSE, "story", "file_unknown_shape"),
        (PROSE, "story.jsonl", "file_unknown_shape"),
        ('[{"a": 1', "rows.txt", "file_json_broken"),
        ("a\x01b\x02" * 20, "noise.txt", "file_unknown_shape"),
        (b"caf\xe9", "coffee.txt", "file_not_utf8"),
        (b"\x80\x04\x95", "model.txt", "file_binary"),
    ],
)
def test_what_is_broken_or_binary_never_becomes_text(path, content, name, code):
    assert refusal(path, content, name).code == code


@pytest.mark.parametrize(("content", "container"), [(JSONL, "jsonl"), (b"prompt\tcompletion\none\t1\ntwo\t2\n", "csv")])
def test_rows_in_a_text_file_stay_rows(path, content, container):
    source, found = read(path, content, "rows.txt")
    assert (source.container, [raw for _, raw in found]) == (container, [A, B])


def test_a_table_of_one_column_is_read_where_its_name_says_so(path):
    source, found = read(path, 'text\n"one, two"\nthree\n', "rows.csv")
    assert (source.container, found) == ("csv", [(2, {"text": "one, two"}), (3, {"text": "three"})])
    assert refusal(path, "text\none\n", "rows").code == "file_unknown_shape"
    assert (
        refusal(path, "Once upon a time there was a file of many lines\nand no column.\n", "rows.csv").code
        == "file_unknown_shape"
    )


def test_a_broken_object_in_a_text_file_is_a_problem(path):
    _, found = read(path, b'{"a": \n' + JSONL, "rows.txt")
    assert [raw.code for _, raw in found if isinstance(raw, Problem)] == ["row_not_json"]


def test_long_texts_are_cut_between_paragraphs_lines_or_words(monkeypatch):
    monkeypatch.setattr(reading_documents, "MAX_ROW_CHARACTERS", 20)
    for text in ("one two\n\nthree four\n\nfive six\n", "one two three\nfour five six seven\n", "word " * 20, "x" * 55):
        parts = list(reading_documents.passages(text[i : i + 7] for i in range(0, len(text), 7)))
        assert "".join(parts) == text and max(map(len, parts)) <= 20
    assert next(iter(reading_documents.passages(["one two\n\nthree four\n\nfive"]))) == "one two\n\n"


def test_pdf_and_word_documents_give_their_text(path):
    assert read(path, pdf("Hello there", "Second page"))[1] == [(1, {"text": "Hello there\n\nSecond page\n\n"})]
    source, found = read(path, word("Hello", "there", cells=("a", "b")), "a.docx")
    assert found == [(1, {"text": "Hello\nthere\na\tb\n"})] and list(source.warnings) == []
    found = inspect(path)
    assert (found.format, found.row_kind, found.usable_rows) == ("text", "text", 1)


def locked(content):
    import pypdf

    writer = pypdf.PdfWriter(clone_from=io.BytesIO(content))
    writer.encrypt("secret", algorithm="RC4-128")
    made = io.BytesIO()
    writer.write(made)
    return made.getvalue()


def swollen(name, size):
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(word("x"))) as good, zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as bad:
        for part in good.infolist():
            bad.writestr(part.filename, b" " * size if part.filename == name else good.read(part))
    return made.getvalue()


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (pdf(""), "file_document_empty"),
        (pdf("x")[:120], "file_document_broken"),
        (b"%PDF-1.7", "file_document_broken"),
        (locked(pdf("x")), "file_document_encrypted"),
        (word(), "file_document_empty"),
        (word("x")[:-30], "file_document_broken"),
        (swollen("word/document.xml", 100), "file_document_broken"),
        (swollen("word/document.xml", 40 * 2**20), "file_too_large"),
        (swollen("docProps/thumbnail.jpeg", 300 * 2**20), "file_too_large"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_documents_that_are_not_read_say_why(path, content, code):
    assert refusal(path, content).code == code


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "set"
    made.mkdir()
    return made


def test_a_folder_is_read_whole_and_its_problems_name_their_files(folder, tmp_path):
    (folder / "b.jsonl").write_bytes(b"{broken\n" + JSONL + b'{"prompt": "x"}\n')
    (folder / "a.csv").write_text("prompt,completion\none,1\n")
    (folder / "deep").mkdir()
    (folder / "deep" / "c.parquet").write_bytes(parquet(TABLE))
    (folder / "broken.json").write_text('[{"prompt": "one", "completion": "1"}, {')
    (folder / "notes.txt").write_text("not rows")
    (folder / "load.py").write_text("raise SystemExit")
    (folder / ".hidden.jsonl").write_bytes(JSONL)
    (folder / "link.jsonl").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(folder / "pipe.jsonl")
    found = inspect(folder)
    assert (found.container, found.format, found.rows, found.usable_rows) == ("folder", "prompt_completion", 9, 6)
    assert [(item.code, item.where.line, item.values["file"]) for item in found.problems] == [
        ("row_not_json", 1, "b.jsonl"),
        ("row_missing_field", 4, "b.jsonl"),
        ("file_json_broken", 1, "broken.json"),
    ]
    said = {item.code: dict(item.values) for item in found.warnings}
    assert said["folder_files_left_out"] == {"files": "load.py, notes.txt"}
    json.dumps(found.as_dict())


def test_warnings_of_several_files_are_told_once(folder):
    for name in ("a.csv", "b.csv", "c.jsonl"):
        (folder / name).write_bytes(JSONL)
    (said,) = [item for item in inspect(folder).warnings if item.code == "file_other_ending"]
    assert said.values == {"ending": "csv", "found": "jsonl", "file": "a.csv, b.csv"}


def test_a_folder_of_documents_is_a_text_each(folder):
    (folder / "a.txt").write_text(PROSE)
    (folder / "b.pdf").write_bytes(pdf("Hello"))
    (folder / "c.docx").write_bytes(word("Hi"))
    (folder / "d.pdf").write_bytes(pdf(""))
    found = inspect(folder)
    assert (found.format, found.usable_rows, found.problem_count) == ("text", 3, 1)
    assert (found.problems[0].code, found.problems[0].values["file"]) == ("file_document_empty", "d.pdf")


def test_the_names_of_files_tell_training_rows_from_others(folder):
    for name in ("train-00000-of-00002", "train-00001-of-00002", "validation-00000-of-00001", "test"):
        (folder / f"{name}.jsonl").write_bytes(JSONL)
    (folder / "train-own.jsonl").write_text(json.dumps({**A, "split": "test"}) + "\n")
    found = inspect(folder)
    assert found.statistics["splits"] == {"train": 4, "test": 5}
    said = next(item for item in found.warnings if item.code == "split_from_file_names")
    assert said.values == {"files": "test.jsonl, validation-00000-of-00001.jsonl"}


def test_names_that_all_say_the_same_decide_nothing(folder):
    (folder / "my_test.jsonl").write_bytes(JSONL)
    assert inspect(folder).statistics["splits"] == {"train": 2, "test": 0}


def test_a_data_set_that_was_saved_to_disk_is_read_as_it_says(folder):
    for split in ("train", "test"):
        part = folder / split
        part.mkdir()
        (part / "data-00000-of-00001.arrow").write_bytes(arrow(TABLE, stream=True))
        (part / "cache-123.arrow").write_bytes(arrow(TABLE, stream=True))
        (part / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}))
        (part / "dataset_info.json").write_text("{}")
    (folder / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    found = inspect(folder)
    assert (found.usable_rows, found.statistics["splits"]) == (4, {"train": 2, "test": 2})
    assert "folder_files_left_out" not in {item.code for item in found.warnings}


def test_a_stored_folder_is_kept_beside_its_rows(folder, tmp_path):
    (folder / "deep").mkdir()
    (folder / "deep" / "a.jsonl").write_bytes(JSONL)
    (folder / "load.py").write_text("raise SystemExit")
    (tmp_path / "datasets").mkdir()
    stored = store_rows(folder, tmp_path / "datasets", Wishes(source_name="set"))
    kept = stored.path.parent / "source.folder"
    assert [path.relative_to(kept).as_posix() for path in kept.rglob("*") if path.is_file()] == ["deep/a.jsonl"]


def test_folders_without_data_or_with_too_much_are_refused(folder, monkeypatch):
    assert refusal(folder).code == "folder_no_files"
    (folder / "load.py").write_text("x")
    assert refusal(folder).values == {"files": "load.py"}
    (folder / "a.jsonl").write_bytes(JSONL)
    (folder / "b.jsonl").write_bytes(JSONL)
    monkeypatch.setattr(folders, "MAX_FILES", 2)
    assert refusal(folder).code == "folder_too_many_files"
    monkeypatch.setattr(folders, "MAX_FILES", 3)
    monkeypatch.setenv("ATELIER_MAX_FILE_BYTES", str(len(JSONL) * 2 - 1))
    assert refusal(folder).code == "file_too_large"


def test_rows_of_a_held_out_file_are_held_out_though_the_first_file_says_nothing(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    for name, count in (("a.jsonl", 300), ("test.jsonl", 3), ("train.jsonl", 5)):
        rows = [{"prompt": f"{name} {i}", "completion": "x"} for i in range(count)]
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert inspect(folder).statistics["splits"] == {"train": 305, "test": 3}
