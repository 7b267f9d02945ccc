"""Large files: chunks at line ends, several processes, and an import that goes on where it was stopped."""

from __future__ import annotations

import io
import json
import shutil

import pytest

from engine.data import chunks, growing, writing
from engine.data.growing import Growing
from engine.data.importer import Wishes, store_rows
from engine.data.reading_json import MAX_ROW_BYTES
from engine.data.rows import Content, files_of, iterate_rows, read_rows

NUM_ROWS = 5000


class Stop(Exception):
    pass


@pytest.fixture
def path(tmp_path):
    """Rows of which every thousandth is broken and every hundredth held out."""
    lines = [
        "{broken" if i % 1000 == 7
        else json.dumps({"prompt": f"q {i % 4000}", "completion": f"a {i % 4000} é", **({"split": "test"} if i % 100 == 0 else {})})
        for i in range(NUM_ROWS)
    ]  # fmt: skip
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


@pytest.fixture
def datasets(tmp_path):
    folder = tmp_path / "datasets"
    folder.mkdir()
    return folder


@pytest.fixture
def small(monkeypatch):
    """Chunks and parts so small that a few thousand rows make many."""
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 10_000)
    monkeypatch.setattr(growing, "PART_BYTES", 60_000)


def content_of_rows(rows):
    content = Content()
    assert all(content.pass_on(rows))
    return content.sha256


def told(stored):
    found = stored.inspection
    return found.rows, found.usable_rows, found.problems, found.problem_kinds, found.statistics, found.warnings


def test_chunks_are_whole_lines_and_know_their_numbers(small):
    text = "".join(f"{i} {'x' * (i % 700)}\n" for i in range(300)).encode() + b"last"
    found = list(chunks.chunks(io.BytesIO(text), 1))
    assert len(found) == 5 and b"".join(one.text for one in found) == text + b"\n"
    assert all(one.text.endswith(b"\n") for one in found)
    for one in found:
        assert int(one.text.split()[0].replace(b"last", b"300")) == one.line - 1


def test_a_line_without_end_is_one_problem_and_takes_no_memory(small, tmp_path, datasets):
    path = tmp_path / "rows.jsonl"
    row = json.dumps({"prompt": "q", "completion": "a"})
    path.write_text(f"{row}\n{{" + "x" * (3 * MAX_ROW_BYTES) + f"\n{row}\n")
    found = store_rows(path, datasets).inspection
    assert found.usable_rows == 2
    assert [(one.code, one.where.line) for one in found.problems] == [("row_too_long", 2)]


def test_several_processes_give_the_same_as_one(small, path, datasets, monkeypatch):
    alone = store_rows(path, datasets)
    shutil.rmtree(alone.path.parent)
    monkeypatch.setattr("engine.data.importer.processes_for", lambda size: 2)
    together = store_rows(path, datasets)
    assert together.sha256 == alone.sha256 and told(together) == told(alone)


def test_a_large_version_lies_in_parts_that_read_as_one(small, path, datasets):
    stored = store_rows(path, datasets)
    assert len(files_of(stored.path)) > 2
    rows = list(iterate_rows(stored.path))
    assert len(rows) == NUM_ROWS - 5 == stored.inspection.usable_rows
    assert content_of_rows(rows) == stored.sha256 == stored.path.parent.name
    assert read_rows(stored.path, 1900, 2000) == rows[1900:3900]


@pytest.mark.parametrize("after", [1, 900, 2600, 4500])
def test_an_import_that_was_stopped_goes_on_there_and_ends_the_same(small, path, datasets, tmp_path, after):
    whole = store_rows(path, datasets)
    shutil.rmtree(whole.path.parent)
    unfinished = datasets / ".incoming-1-1"

    def stop(rows, share):
        if rows >= after:
            raise Stop

    with pytest.raises(Stop):
        store_rows(path, datasets, progress=stop, unfinished=unfinished)
    again = datasets / ".incoming-1-2"
    Growing.take_over(unfinished, again)
    begun = []
    ended = store_rows(path, datasets, progress=lambda rows, share: begun.append(rows), unfinished=again)
    assert begun[0] > after, "what was read is not read again"
    assert ended.sha256 == whole.sha256 and told(ended) == told(whole)
    assert content_of_rows(iterate_rows(ended.path)) == ended.sha256
    assert len((ended.path.parent / "problems.jsonl").read_text().splitlines()) == 5
    assert [one.name for one in datasets.iterdir()] == [ended.sha256]


def test_an_attempt_that_died_is_taken_up_at_its_last_closed_part(small, path, datasets, monkeypatch):
    whole = store_rows(path, datasets)
    shutil.rmtree(whole.path.parent)
    unfinished = datasets / ".incoming-1-1"
    close = Growing.close_part

    def die(rows, share):
        if rows >= 3000:
            monkeypatch.setattr(Growing, "close_part", lambda self: None)  # no time to close anything
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store_rows(path, datasets, progress=die, unfinished=unfinished)
    monkeypatch.setattr(Growing, "close_part", close)
    begun = []
    ended = store_rows(path, datasets, progress=lambda rows, share: begun.append(rows), unfinished=unfinished)
    assert 1000 < begun[0] < 3500
    assert ended.sha256 == whole.sha256 and told(ended) == told(whole)


@pytest.mark.parametrize("changed", ["wishes", "file"])
def test_other_wishes_or_another_file_begin_anew(small, path, datasets, changed):
    unfinished = datasets / ".incoming-1-1"
    begun = []

    def stop(rows, share):
        begun.append(rows)
        if rows >= 2000:
            raise Stop

    with pytest.raises(Stop):
        store_rows(path, datasets, progress=stop, unfinished=unfinished)
    if changed == "file":
        path.write_text(path.read_text() + "\n")
    begun.clear()
    with pytest.raises(Stop):
        store_rows(path, datasets, Wishes(source_name=changed), progress=stop, unfinished=unfinished)
    assert begun[0] < 500


def test_what_is_refused_leaves_nothing_behind(path, datasets):
    from engine.specs.problem import ProblemError

    with pytest.raises(ProblemError):
        store_rows(path, datasets, Wishes(policy="refuse"), unfinished=datasets / ".incoming-1-1")
    assert list(datasets.iterdir()) == []


@pytest.mark.parametrize("moment", ["write_table", "add"])
def test_an_import_that_is_stopped_in_the_middle_of_a_piece_has_each_row_once(
    small, path, datasets, monkeypatch, moment
):
    """A wish to end comes between any two lines: rows may be in the file whose digests are not yet counted."""
    whole = store_rows(path, datasets)
    shutil.rmtree(whole.path.parent)
    unfinished = datasets / ".incoming-1-1"
    target = growing.pq.ParquetWriter if moment == "write_table" else growing.Tally
    plain, calls = getattr(target, moment), []

    def stop_after(self, *arguments, **named):
        plain(self, *arguments, **named)
        calls.append(1)
        if len(calls) == 12:
            raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(target, moment, stop_after)
        with pytest.raises(Stop):
            store_rows(path, datasets, unfinished=unfinished)
    ended = store_rows(path, datasets, unfinished=unfinished)
    assert ended.sha256 == whole.sha256 == content_of_rows(iterate_rows(ended.path)) and told(ended) == told(whole)


@pytest.mark.parametrize("damage", ["short digests", "a part gone", "torn counts"])
def test_what_an_attempt_left_half_is_read_anew(small, path, datasets, damage):
    whole = store_rows(path, datasets)
    shutil.rmtree(whole.path.parent)
    unfinished = datasets / ".incoming-1-1"

    def stop(rows, share):
        if rows >= 3000:
            raise Stop

    with pytest.raises(Stop):
        store_rows(path, datasets, progress=stop, unfinished=unfinished)
    if damage == "short digests":
        (unfinished / "digests").write_bytes(b"short")
    elif damage == "a part gone":
        (unfinished / "version" / "rows.parquet").unlink()
    else:
        for counts in unfinished.glob("counts-*.npz"):
            counts.write_bytes(counts.read_bytes()[:100])
    ended = store_rows(path, datasets, unfinished=unfinished)
    assert ended.sha256 == whole.sha256 == content_of_rows(iterate_rows(ended.path)) and told(ended) == told(whole)


def test_a_large_version_is_written_as_one_file_with_all_its_rows(small, path, datasets, tmp_path):
    stored = store_rows(path, datasets)
    written = writing.write_parquet(stored.path, tmp_path / "all.parquet", lambda rows: None)
    assert written.rows == NUM_ROWS - 5
    assert list(iterate_rows(tmp_path / "all.parquet")) == list(iterate_rows(stored.path))
