"""Rare and ruling task types and a few weighty rows are told; even data is not."""

from __future__ import annotations

from tests.data.doctor.making import prose, row, varied


def test_a_task_type_with_hardly_any_row_is_told_and_nothing_of_it_is_left_out(find):
    rows = [*varied(60, task_type="a"), *varied(57, task_type="b"), *varied(3, task_type="c")]
    assert find("imbalance", rows) == {"doctor_rare_task_type:c": ([117, 118, 119], [])}


def test_a_task_type_that_rules_is_told(find):
    found = find("imbalance", [*varied(110, task_type="a"), *varied(20, task_type="b")])
    assert list(found) == ["doctor_ruling_task_type"] and len(found["doctor_ruling_task_type"][0]) == 110


def test_few_rows_with_most_of_the_text_are_told(find):
    rows = [*varied(150), row("Go on", prose(1, 9000))]
    ((rows, left_out),) = find("imbalance", rows).values()
    assert 150 in rows and len(rows) == 2 and not left_out


def test_even_types_few_rows_and_rows_without_a_type_are_balanced(find):
    even = [*varied(60, task_type="a"), *varied(40, task_type="b"), *varied(20, task_type="c")]
    assert find("imbalance", even) == {}
    assert find("imbalance", varied(200)) == {}
    assert find("imbalance", [*varied(20, task_type="a"), *varied(1, task_type="b")]) == {}
