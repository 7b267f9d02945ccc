"""Contradicting labels are found; several good answers to one prompt are not."""

from __future__ import annotations

from tests.data.doctor.making import judged, pair, prose, row, varied


def test_the_label_that_most_rows_contradict_is_left_out(find):
    film = "What a film!"
    rows = [*varied(20), row(film, "positive"), row(film, "Positive."), row("What  a film! ", "negative")]
    assert find("label_noise", rows) == {"doctor_label_noise": ([20, 21, 22], [22])}


def test_where_no_label_leads_none_can_be_trusted(find):
    rows = [*varied(20), row("What a film!", "positive"), row("What a film!", "negative")]
    assert find("label_noise", rows) == {"doctor_label_noise": ([20, 21], [20, 21])}


def test_an_answer_judged_both_ways_and_a_pair_chosen_both_ways_are_found(find):
    rows = [judged(f"Why {n}?", "So.", True) for n in range(20)] + [judged("Why 3?", "So.", False)]
    assert find("label_noise", rows) == {"doctor_label_noise": ([3, 20], [3, 20])}
    rows = [pair(f"Why {n}?", "So.", "No.") for n in range(20)] + [pair("Why 3?", "No.", "So.")]
    assert find("label_noise", rows) == {"doctor_label_noise": ([3, 20], [3, 20])}


def test_long_answers_other_systems_and_equal_labels_are_no_noise(find):
    rows = [
        *varied(20),
        row("Tell me a story", prose(1)),
        row("Tell me a story", prose(2)),
        row("Good day", "Bonjour", system="Translate to French"),
        row("Good day", "Guten Tag", system="Translate to German"),
        row("Really?", "yes"),
        row("Really?", "Yes!"),
    ]
    assert find("label_noise", rows) == {}


def test_data_with_several_answers_to_each_prompt_is_meant_so(find):
    rows = [row(f"A word with {sign}", f"{sign}{end}") for sign in "abcdefgh" for end in ("x", "y", "z")]
    assert find("label_noise", rows) == {}
