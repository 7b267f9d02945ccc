"""How many rows of each source a mixture holds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.specs.mixture import counts, planned
from engine.specs.operations import Mix
from engine.specs.problem import ProblemError


def test_temperature_draws_the_weights_together():
    assert counts([90, 10], 1, 100) == [90, 10]
    assert counts([90, 10], 2, 100) == [75, 25]
    assert counts([90, 10], 100, 100) == [51, 49]
    assert counts([1, 1, 1], 1, 100) == [34, 33, 33]
    assert counts([1, 0], 1, 7) == [7, 0]


@given(
    st.lists(st.floats(0, 1e308), min_size=1, max_size=20).filter(any),
    st.floats(0.1, 100),
    st.integers(1, 10**8),
)
def test_the_counts_always_add_up_and_a_weight_of_nothing_gets_nothing(weights, temperature, total):
    found = counts(weights, temperature, total)
    assert sum(found) == total and min(found) >= 0
    assert all(count == 0 for weight, count in zip(weights, found, strict=True) if weight == 0)


def test_without_weights_every_row_comes_once():
    assert planned(Mix(), [300, 0, 8000]) == [300, 0, 8000]


@pytest.mark.parametrize(
    ("told", "sizes", "code"),
    [
        ({"weights": (1, 1)}, [3, 0], "data_no_training_rows"),
        ({}, [0, 0], "data_no_training_rows"),
        ({"weights": (1,)}, [3, 3], "spec_weights_count"),
    ],
)
def test_what_cannot_be_mixed_is_refused(told, sizes, code):
    with pytest.raises(ProblemError, match=code):
        planned(Mix(**told), sizes)
