"""The choice between the languages, and how a sentence gets its values."""

from __future__ import annotations

import json

import pytest

from app.language import FOLDER, LANGUAGES, choose, text
from engine.specs.problem import problem


def sentences(language: str) -> dict[str, str]:
    return json.loads((FOLDER / f"{language}.json").read_text("utf-8"))


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_sentence_is_empty(language):
    assert [key for key, sentence in sentences(language).items() if not sentence.strip()] == []


@pytest.mark.parametrize(
    ("cookie", "accept", "chosen"),
    [
        ("zh", "en", "zh"),
        (None, "zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        (None, "de-DE,en;q=0.5,zh;q=0.4", "en"),
        (None, "fr", "en"),
        ("xx", None, "en"),
        (None, ";;q=,,zh;q=abc", "zh"),
        (None, None, "en"),
    ],
)
def test_the_cookie_leads_and_the_browser_follows(cookie, accept, chosen):
    assert choose(cookie, accept) == chosen


def test_an_unknown_key_shows_itself_and_a_missing_value_its_name():
    t = text("en")
    assert t("no.such.key") == "no.such.key"
    assert t("runs.step", step=3) == "step 3 of {total}"


def test_a_sentence_that_may_be_missing_has_a_fallback():
    t = text("en")
    assert t.get("no.such.key", "as it is") == "as it is"
    assert t.get("runs.at_step", "as it is", step=3) == "step 3"


def test_a_code_is_told_in_words_and_one_without_words_as_it_is():
    what, _ = text("zh").problem(problem("data_rows_do_not_fit", needed="preference", given="brand_new"))
    assert what == "这个目标需要偏好对，而数据集中是brand_new。"
    skipped = text("en")("event.checkpoint_skipped", step=6, why="other_size", file="a.safetensors")
    assert skipped == "The checkpoint of step 6 was not used: a.safetensors has another size than its manifest says."


def test_values_are_never_read_as_templates():
    assert text("en")("runs.at_step", step="{step.__class__}") == "step {step.__class__}"


def test_a_problem_becomes_what_and_fix():
    what, fix = text("en").problem(problem("rehearsal_failed", name="tickets", reason="disk full"))
    assert what == "Preparing tickets failed: disk full" and fix
