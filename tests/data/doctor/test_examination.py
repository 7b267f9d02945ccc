"""An examination as a whole: the checks that there are, what it keeps on disk, and rows in which nothing is wrong."""

from __future__ import annotations

import pytest

from engine.data.doctor import CHECKS
from engine.data.doctor.examination import (
    examine,
    findings_path,
    key_of,
    removable_rows,
    setup_of,
    write_findings,
)
from engine.data.doctor.reading import iterate_seen
from engine.specs import versions
from tests.data.doctor.making import judged, pair, row, say, varied


def test_the_checks_are_those_that_a_spec_can_name():
    assert tuple(CHECKS) == versions.CHECKS


@pytest.mark.parametrize(
    "rows",
    [
        varied(150),
        [pair(f"Why is {n} so?", f"Since {n} came first.", f"I do not know {n}.") for n in range(50)],
        [judged(f"Why is {n} so?", f"Since {n} came first.", n % 2 == 0) for n in range(50)],
        [{"text": f"The story of number {n} begins at {n * 7} in the morning."} for n in range(50)],
        [row("Why?", "So it is, as far as we know.")],
    ],
    ids=["conversations", "pairs", "judged", "texts", "one row"],
)
def test_nothing_is_found_where_nothing_is_wrong(stored, tmp_path, rows):
    path = stored(rows)
    assert examine(path, setup_of(path, tmp_path), list(CHECKS)) == []


def test_progress_is_told_while_rows_are_read(stored, tmp_path):
    told = []
    path = stored(varied(4100))
    examine(path, setup_of(path, tmp_path), ["lengths"], told.append)
    assert told == [2000, 4000]


def test_all_row_numbers_are_kept_beside_the_rows_and_read_back(stored, tmp_path):
    path = stored([*varied(70), *varied(60), row("?", " ")])
    found = examine(path, setup_of(path, tmp_path), ["duplicates", "answers"])
    kept = findings_path(path, key_of(["duplicates", "answers"], 0.85, "row"))
    write_findings(kept, found)
    assert kept.parent == path.parent
    assert removable_rows(kept, ["doctor_same_rows"]).tolist() == list(range(70, 130))
    assert removable_rows(kept, [one.key for one in found]).tolist() == list(range(70, 131))
    with pytest.raises(KeyError):
        removable_rows(kept, ["doctor_same_rows", "no_such_finding"])
    assert not list(tmp_path.glob(".doctor*"))


def test_an_examination_that_found_nothing_leaves_a_file_that_says_so(stored, tmp_path):
    kept = tmp_path / "doctor.parquet"
    write_findings(kept, [])
    with pytest.raises(KeyError):
        removable_rows(kept, ["doctor_same_rows"])


def test_other_settings_are_another_examination():
    keys = {key_of(["duplicates"], 0.85, "row"), key_of(["duplicates"], 0.9, "row"), key_of(["leaks"], 0.85, "row")}
    assert len(keys) == 3


def test_a_row_is_seen_as_what_is_given_and_what_is_answered(stored):
    turns = [say("system", "Be kind."), say("user", "Sun?"), say("assistant", "", '[{"name": "sky"}]')]
    turns += [say("tool", "clear"), say("assistant", "Yes, sun.")]
    (seen,) = iterate_seen(stored([{"messages": turns, "task_type": "weather", "split": "test"}]))
    assert seen.given == ("Be kind.", "Sun?", "clear")
    assert seen.answers == ('[{"name": "sky"}]', "Yes, sun.")
    assert seen.prompt == 'Sun?\n[{"name": "sky"}]\nclear' and seen.answer == "Yes, sun."
    assert seen.held_out and seen.task_type == "weather"
