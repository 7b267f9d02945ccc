"""Exact duplicates: the copies are found and left out, the first one stays, and what only looks alike is no copy."""

from __future__ import annotations

from tests.data.doctor.making import judged, pair, row, varied


def test_all_copies_but_the_first_are_left_out(find):
    rows = [*varied(3), *varied(2), *varied(1)]
    assert find("duplicates", rows) == {"doctor_same_rows": ([0, 1, 3, 4, 5], [3, 4, 5])}


def test_the_same_answer_to_the_same_prompt_is_found_though_the_rows_differ(find):
    rows = [row("Why?", "So  that."), row("Why?", "So that.\n"), row("How?", "So that.")]
    assert find("duplicates", rows) == {"doctor_same_pairs": ([0, 1], [1])}


def test_a_copy_under_another_task_or_group_is_a_copy(find):
    rows = [row("Why?", "So.", task_type="a", group="x"), row("Why?", "So.", task_type="b", group="y")]
    assert find("duplicates", rows) == {"doctor_same_rows": ([0, 1], [1])}


def test_several_answers_to_a_prompt_other_systems_and_other_tools_are_no_copies(find):
    rows = [
        row("Why?", "So."),
        row("Why?", "Thus."),
        row("Why?", "So.", system="Be brief."),
        row("Why?", "So.", system="Be kind."),
        row("Why?", "So.", tools='[{"name": "search"}]'),
        row("Why", "So."),
    ]
    assert find("duplicates", rows) == {}


def test_rows_whose_texts_run_into_each_other_alike_are_no_copies(find):
    assert find("duplicates", [row("ab", "c"), row("a", "bc")]) == {}


def test_a_held_out_copy_of_a_training_row_is_the_matter_of_another_check(find):
    assert find("duplicates", [row("Why?", "So."), row("Why?", "So.", split="test")]) == {}


def test_pairs_and_judged_answers_are_compared_as_a_whole(find):
    rows = [pair("Why?", "So.", "No."), pair("Why?", "So.", "Never."), pair("Why?", "So.", "No.")]
    assert find("duplicates", rows) == {"doctor_same_rows": ([0, 2], [2])}
    rows = [judged("Why?", "So.", True), judged("Why?", "So.", False), judged("Why?", "So.", True)]
    assert find("duplicates", rows) == {"doctor_same_rows": ([0, 2], [2])}


def test_equal_texts_are_copies(find):
    assert find("duplicates", [{"text": "One."}, {"text": "Two."}, {"text": "One."}]) == {
        "doctor_same_rows": ([0, 2], [2])
    }
