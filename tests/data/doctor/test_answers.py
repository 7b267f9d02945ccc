"""Answers that teach nothing are found; short, listed and counted ones are not."""

from __future__ import annotations

import pytest

from tests.data.doctor.making import judged, row, say, varied

LOOP = "I am sorry, I cannot do that. " * 12


def test_an_empty_answer_is_found(find):
    rows = [*varied(20), judged("Why?", " \n", True) | {"messages": None}]
    rows[-1] = row("Why?", " \n")
    assert find("answers", rows) == {"doctor_empty_answers": ([20], [20])}


def test_a_single_word_among_sentences_is_found_and_a_number_is_not(find):
    rows = [*varied(40), row("Is it so?", "Yes."), row("How many?", "42"), row("Where?", "/etc/hosts"), row("?", "好")]
    assert find("answers", rows) == {"doctor_one_word_answers": ([40, 43], [40, 43])}


def test_labels_are_the_form_of_the_task(find):
    rows = [row(f"What a film, number {n}!", "positive" if n % 2 else "negative") for n in range(40)]
    assert find("answers", rows) == {}


@pytest.mark.parametrize("loop", [LOOP, "ha " * 50, "对不起，我不能。" * 12, "It starts well. " + "and so on " * 40])
def test_an_answer_that_goes_round_in_circles_is_found(find, loop):
    assert find("answers", [*varied(30), row("Say it.", loop)]) == {"doctor_repeating_answers": ([30], [30])}


@pytest.mark.parametrize(
    "answer",
    [
        "\n".join(f"| {n} | {n * n} | {n * n * n} |" for n in range(40)),
        "\n".join(f"{n}. Item number {n} of the list costs {n * 3} euros" for n in range(30)),
        "\n".join(f"    self.value_{n} = value_{n}" for n in range(30)),
        "No, no, no, no!",
        "静夜思 床前明月光，疑是地上霜。举头望明月，低头思故乡。" * 2,
    ],
)
def test_tables_lists_code_and_verse_are_no_loops(find, answer):
    assert find("answers", [*varied(30), row("Say it.", answer)]) == {}


def test_a_turn_that_calls_a_tool_is_no_empty_answer(find):
    turns = [say("user", "Weather?"), say("assistant", "", '[{"name": "weather"}]'), say("tool", "sun")]
    assert find("answers", [*varied(20), {"messages": [*turns, say("assistant", "It is sunny today.")]}]) == {}
