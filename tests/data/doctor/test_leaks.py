"""Held-out rows that are trained on are found; the training rows go, so that what measures stays."""

from __future__ import annotations

from tests.data.doctor.making import pair, row, varied


def test_a_held_out_row_that_is_trained_on_is_found_and_the_training_row_goes(find):
    rows = [*varied(10), *varied(2, split="test")]
    assert find("leaks", rows) == {"doctor_leaked_rows": ([0, 1, 10, 11], [0, 1])}


def test_a_held_out_prompt_that_is_trained_on_is_found(find):
    rows = [*varied(5), row("Why is it so?", "Thus."), row("Why is it so?", "Because.", split="test")]
    assert find("leaks", rows) == {"doctor_leaked_prompts": ([5, 6], [5])}


def test_a_pair_leaks_with_its_sides_exchanged(find):
    rows = [pair("Why?", "So.", "No."), pair("Why?", "No.", "So.", split="test"), pair("How?", "So.", "No.")]
    assert find("leaks", rows) == {"doctor_leaked_prompts": ([0, 1], [0])}


def test_equal_answers_and_rows_without_a_held_out_part_leak_nothing(find):
    rows = [row(f"Is {n} even?", "yes" if n % 2 else "no", split="test" if n > 15 else None) for n in range(20)]
    assert find("leaks", rows) == {}
    assert find("leaks", [*varied(5), *varied(5)]) == {}
    assert find("leaks", [{"text": "One."}, {"text": "Two.", "split": "test"}]) == {}


def test_a_text_that_is_held_out_and_trained_on_leaks(find):
    assert find("leaks", [{"text": "One."}, {"text": "One.", "split": "test"}]) == {"doctor_leaked_rows": ([0, 1], [0])}
