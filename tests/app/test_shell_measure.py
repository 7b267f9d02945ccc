"""Numbers, sizes, durations and times."""

from __future__ import annotations

import math
from datetime import datetime

import pytest

from app.language import text
from app.measure import duration, number, short, size, when

EN, ZH = text("en"), text("zh")


@pytest.mark.parametrize(
    ("value", "read"),
    [(0.70812, "0.708"), (0.000234567, "0.000235"), (1234567, "1,234,567"), (12.345, "12.3"), (0, "0"), (None, "–"), (math.nan, "–"),
     (2e-7, "2.00e-07"), (-3.14159, "-3.14"), (3.0, "3"), (1999.6, "2,000")],
)  # fmt: skip
def test_numbers_keep_three_digits(value, read):
    assert number(value) == read


@pytest.mark.parametrize(
    ("value", "read"), [(252_000, "252 k"), (4_900_000, "4.9 M"), (134_500_000, "134 M"), (246.6, "247"), (900, "900")]
)
def test_counts_are_short(value, read):
    assert short(value) == read


@pytest.mark.parametrize(
    ("value", "read"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (19_800_000, "19.8 MB"),
        (1.83e9, "1.8 GB"),
        (254e6, "254 MB"),
        (5e15, "5000.0 TB"),
        (None, "–"),
    ],
)
def test_sizes_are_decimal(value, read):
    assert size(value) == read


@pytest.mark.parametrize(
    ("seconds", "read"),
    [(0, "0 s"), (59.6, "1 min"), (372, "6 min 12 s"), (3600, "1 h"), (90061, "1 d 1 h"), (None, "–"), (math.inf, "–")],
)
def test_durations_have_two_units(seconds, read):
    assert duration(EN, seconds) == read


def test_durations_speak_the_language():
    assert duration(ZH, 372) == "6 分 12 秒"


def test_a_time_names_its_day_only_when_it_is_another():
    now = datetime(2026, 11, 21, 14, 30).timestamp()
    assert when(EN, datetime(2026, 11, 21, 9, 5).timestamp(), now) == "09:05"
    assert when(EN, datetime(2026, 3, 1, 9, 5).timestamp(), now) == "1 Mar 09:05"
    assert when(ZH, datetime(2025, 3, 1, 9, 5).timestamp(), now) == "3月1日 2025"
    assert when(EN, None, now) == "–"
