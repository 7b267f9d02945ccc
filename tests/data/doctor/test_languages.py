"""A stray language is found; short texts, code, names and a mixture of languages are not."""

from __future__ import annotations

import pytest

from engine.data.doctor.languages import language_of
from tests.data.doctor.making import row

ENGLISH = (
    "The letter that you sent us last week has arrived, and we are going to answer it within {} days, as promised."
)
GERMAN = (
    "Ihr Brief von letzter Woche ist bei uns eingetroffen, und wir werden ihn in {} Tagen beantworten, wie versprochen."
)
CHINESE = "您上周寄来的信已经收到，我们会在{}天之内按照约定给您答复，请您耐心等待。"


def of(text, count):
    return [row(f"Question {n}", text.format(n)) for n in range(count)]


def test_the_few_rows_in_another_language_are_found(find):
    rows = [*of(ENGLISH, 60), *of(GERMAN, 2), *of(CHINESE, 1)]
    assert find("languages", rows) == {
        "doctor_other_language:de": ([60, 61], [60, 61]),
        "doctor_other_language:zh": ([62], [62]),
    }


def test_a_dataset_in_two_languages_is_one_in_two_languages(find):
    assert find("languages", [*of(ENGLISH, 30), *of(CHINESE, 20)]) == {}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Bonjour !",
        "Très bien, merci.",
        "for (int i = 0; i < n; i++) { total += values[i]; } return total; // and so on for all values of the list",
        "42 * 17 = 714, 714 / 3 = 238, 238 - 100 = 138, 138 + 4 = 142, 142 * 2 = 284, 284 / 4 = 71, 71 - 1 = 70",
        "好的。",
    ],
)
def test_short_texts_code_and_numbers_are_not_judged(text):
    assert language_of(text) is None


def test_names_from_elsewhere_do_not_change_the_language(find):
    name = "The poet Wolfgang von Goethe, the painter Chaïm Soutine and the town Llanfairpwllgwyngyll are named here."
    assert find("languages", [*of(ENGLISH, 40), row("Who?", name)]) == {}
