"""The answers to held-out rows: several at once are the same as one at a time, and a run that must end leaves them."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from engine.data.render import Renderer
from engine.models.loading import load_model, load_tokenizer
from engine.runtime import answers

QUESTIONS = [
    [{"role": "user", "content": text}]
    for text in ("Hello?", "My invoice shows the same charge twice, what now?", "Why is the sky blue? " * 6)
]


@pytest.fixture(scope="module")
def speaker(tiny_model):
    tokenizer = load_tokenizer(tiny_model)
    rows = SimpleNamespace(tokenizer=tokenizer, renderer=Renderer(tokenizer))
    return load_model(tiny_model, dtype="float32"), rows


def answered(speaker, questions, *, most_tokens=10**6, should_stop=lambda: False):
    model, rows = speaker
    return answers._answers(
        model, rows, [(one, None) for one in questions], most_tokens=most_tokens, should_stop=should_stop
    )


def test_questions_of_different_lengths_get_the_answers_that_each_gets_alone(speaker):
    alone = [answered(speaker, [one])[0] for one in QUESTIONS]
    assert len(set(alone)) > 1, "answers that are all the same would prove nothing"
    assert answered(speaker, QUESTIONS) == alone
    assert answered(speaker, QUESTIONS, most_tokens=1) == alone


def test_no_more_is_computed_at_once_than_is_allowed(speaker, monkeypatch):
    sizes = []
    batch = answers._batch
    monkeypatch.setattr(answers, "_batch", lambda *given: sizes.append(len(given[2])) or batch(*given))
    longest = max(len(speaker[1].renderer.prompt(one)) for one in QUESTIONS)
    answered(speaker, QUESTIONS, most_tokens=2 * (longest + answers.MAX_NEW_TOKENS))
    assert sizes == [2, 1]


def test_an_answer_ends_before_its_end_whatever_token_that_is(speaker, monkeypatch):
    _, rows = speaker
    whole = answered(speaker, QUESTIONS)
    ids = rows.tokenizer(whole[0], add_special_tokens=False)["input_ids"]
    monkeypatch.setattr(answers, "stop_ids", lambda *_: [ids[5]])  # an ordinary word, which decoding does not leave out
    for text, before in zip(answered(speaker, QUESTIONS), whole, strict=True):
        assert before.startswith(text)
        assert ids[5] not in rows.tokenizer(text, add_special_tokens=False)["input_ids"]


def test_a_run_that_must_end_leaves_its_answers_and_begins_no_more(speaker, monkeypatch):
    begun = []
    batch = answers._batch
    monkeypatch.setattr(answers, "_batch", lambda *given: begun.append(given) or batch(*given))
    looks = iter([False, False, *[True] * 1000])
    assert answered(speaker, QUESTIONS, most_tokens=1, should_stop=lambda: next(looks)) == []
    assert len(begun) == 1
