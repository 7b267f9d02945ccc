"""The captured output of children: its end is always kept, its beginning goes first, and it never grows past a cap."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from app import joblog
from engine.runtime import logs
from engine.specs import printed

CAP = 20_000


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(logs, "CAP_BYTES", CAP)
    return tmp_path / "job-7.log"


def carried(path: Path, *chunks: bytes) -> None:
    """One child that printed this, from its start to its end."""
    reading, writing = os.pipe()
    thread = logs.carry(os.fdopen(reading, "rb"), path)
    with os.fdopen(writing, "wb") as pipe:
        for chunk in chunks:
            pipe.write(chunk)
    thread.join()


def flood(lines: int) -> bytes:
    return b"".join(b"line %d\n" % number for number in range(lines))


def size(path: Path) -> int:
    return sum(one.stat().st_size for one in (path, printed.before(path)) if one.exists())


def test_what_was_printed_last_is_kept_and_no_more_than_the_cap(path: Path) -> None:
    carried(path, flood(10_000), b"the last word\n")
    assert size(path) <= CAP
    assert logs.tail(path).splitlines()[-2:] == ["line 9999", "the last word"]
    assert "line 0\n" not in path.read_text() + printed.before(path).read_text()


def test_the_next_attempt_of_a_job_that_printed_much_is_kept_too(path: Path) -> None:
    carried(path, flood(10_000))
    carried(path, b"of the second attempt\n")
    assert logs.tail(path).splitlines()[-1] == "of the second attempt"
    assert size(path) <= CAP


def test_the_last_lines_reach_back_over_the_turn(path: Path) -> None:
    carried(path, flood(1_150))
    turned = printed.before(path).read_text().splitlines()[-1]
    assert turned.startswith("line ") and 0 < path.stat().st_size < CAP // 2
    carried(path, b"after\n")
    for last in (logs.tail(path, lines=400).splitlines(), joblog.tail(path, lines=400)):
        assert len(last) == 400 and turned in last and last[-1] == "after"


def test_two_children_of_one_log_turn_it_together(path: Path) -> None:
    pipes, threads = [], []
    for _ in range(2):
        reading, writing = os.pipe()
        threads.append(logs.carry(os.fdopen(reading, "rb"), path))
        pipes.append(os.fdopen(writing, "wb", buffering=0))
    for number in range(2_000):
        pipes[number % 2].write(b"line %d\n" % number)
    for pipe in pipes:
        pipe.close()
    for thread in threads:
        thread.join()
    assert size(path) <= CAP + 2_000
    assert {"line 1998", "line 1999"} <= set(printed.end(path, CAP).splitlines())


def test_a_log_that_was_removed_under_a_child_begins_anew(path: Path) -> None:
    reading, writing = os.pipe()
    thread = logs.carry(os.fdopen(reading, "rb"), path)
    with os.fdopen(writing, "wb") as pipe:
        path.unlink()
        pipe.write(flood(4_000))
        pipe.write(b"the last word\n")
    thread.join()
    assert logs.tail(path).endswith("the last word")


def test_no_log_has_no_last_lines(path: Path) -> None:
    assert (logs.tail(path), joblog.tail(path, lines=5)) == ("", [])
