"""The split is decided by content: stable, disjoint, and blind to order."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.data.split import split


def row(text, part=None):
    return {"messages": [{"role": "user", "content": str(text), "train": None}], "split": part}


@given(st.lists(st.integers(0, 30), max_size=60), st.floats(0, 0.5), st.integers(0, 2**31 - 1))
@settings(max_examples=150, deadline=None)
def test_every_row_is_on_exactly_one_side_and_equal_rows_on_the_same(values, fraction, seed):
    rows = [row(value, "test" if value > 27 else None) for value in values]
    parts = split(rows, fraction, seed)
    assert sorted([*parts.train, *parts.eval, *parts.test]) == list(range(len(rows)))
    assert not {values[i] for i in parts.train} & {values[i] for i in parts.eval}
    assert [values[i] > 27 for i in parts.test] == [True] * len(parts.test)
    if len(values) > len(parts.test):
        assert parts.train


def test_the_share_is_kept():
    parts = split([row(i) for i in range(1000)], 0.1, 1)
    assert len(parts.eval) == 100 and len(parts.train) == 900


@pytest.mark.parametrize("count", [2, 3, 5, 9])
def test_a_small_dataset_has_one_row_aside(count):
    assert len(split([row(i) for i in range(count)], 0.1, 1).eval) == 1


def test_a_single_row_trains():
    assert split([row(1)], 0.5, 1) == ([0], [], [])


def test_no_share_means_no_row_aside():
    assert split([row(i) for i in range(10)], 0.0, 1).eval == []


def test_order_does_not_matter_and_the_seed_does():
    rows = [row(i) for i in range(200)]
    texts = {rows[i]["messages"][0]["content"] for i in split(rows, 0.2, 1).eval}
    backwards = rows[::-1]
    assert {backwards[i]["messages"][0]["content"] for i in split(backwards, 0.2, 1).eval} == texts
    assert {rows[i]["messages"][0]["content"] for i in split(rows, 0.2, 2).eval} != texts


def test_added_rows_hardly_move_the_others():
    rows = [row(i) for i in range(500)]
    before = set(split(rows, 0.2, 1).eval)
    after = set(split([*rows, *(row(i) for i in range(500, 550))], 0.2, 1).eval)
    assert len(before - after) <= 20


def test_the_rows_of_a_group_are_on_one_side():
    rows = [{**row(i), "group": f"customer {i % 20}" if i % 5 else None} for i in range(300)]
    parts = split(rows, 0.2, 1, by="group")
    sides = [{rows[i]["group"] for i in side} - {None} for side in (parts.train, parts.eval)]
    assert not sides[0] & sides[1] and len(sides[1]) > 1
    assert len(parts.eval) == 60 and len(parts.train) == 240


def test_each_task_type_is_evaluated_in_its_share():
    rows = [{**row(i), "task_type": "rare" if i < 20 else None} for i in range(220)]
    parts = split(rows, 0.1, 1, by="task_type")
    assert sum(i < 20 for i in parts.eval) == 2 and sum(i >= 20 for i in parts.eval) == 20
    assert sorted([*parts.train, *parts.eval]) == list(range(220))
