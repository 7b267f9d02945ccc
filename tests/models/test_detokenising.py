"""Text while it grows: never a half character, and in the end exactly what the tokens say."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.models.detokenising import HALF, Detokeniser
from engine.models.loading import load_tokenizer


@pytest.fixture(scope="module")
def tokenizer(starter):
    return load_tokenizer(starter)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=60))
def test_any_text_comes_back_and_only_grows(tokenizer, text):
    ids = tokenizer.encode(text, add_special_tokens=False)
    detokeniser = Detokeniser(tokenizer)
    plain = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    before = ""
    for token in ids:
        now = detokeniser.add(token)
        assert now.startswith(before) and (HALF in plain or HALF not in now)
        before = now
    assert detokeniser.end() == plain.rstrip(HALF)


def test_a_character_of_several_tokens_appears_whole(tokenizer):
    ids = tokenizer.encode("好🙂", add_special_tokens=False)
    assert len(ids) > 2
    detokeniser = Detokeniser(tokenizer)
    assert {detokeniser.add(token) for token in ids} == {"", "好", "好🙂"}


def test_a_character_that_was_never_finished_is_left_out(tokenizer):
    ids = tokenizer.encode("ok 🙂", add_special_tokens=False)[:-1]
    detokeniser = Detokeniser(tokenizer)
    for token in ids:
        detokeniser.add(token)
    assert detokeniser.end().strip() == "ok"


def test_control_tokens_are_no_text(tokenizer):
    detokeniser = Detokeniser(tokenizer)
    for token in [*tokenizer.encode("yes", add_special_tokens=False), 2]:
        detokeniser.add(token)
    assert detokeniser.end() == "yes"
