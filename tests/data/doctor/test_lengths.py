"""A row of many times the usual length is found; a long tail is not."""

from __future__ import annotations

from tests.data.doctor.making import prose, row, varied


def test_a_row_of_more_than_ten_times_the_median_is_found(find):
    rows = [*varied(120), row("Go on.", prose(1, 2000))]
    assert find("lengths", rows) == {"doctor_long_rows": ([120], [120])}


def test_a_long_tail_belongs_to_the_data(find):
    assert find("lengths", [*varied(120), *(row("Go on.", prose(seed, 2000)) for seed in range(8))]) == {}


def test_a_sentence_among_words_is_not_long(find):
    assert find("lengths", [*(row(f"{n}?", "Yes") for n in range(120)), row("And?", prose(1, 100))]) == {}
