"""HTML is made in one place, and nothing that people wrote gets through it unescaped."""

from __future__ import annotations

import inspect
import math
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app import render
from app.language import text
from app.panel import Panel
from app.render import Html, TokenLabels
from engine.specs.problem import problem

T = text("en")
NASTY = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</pre></div><svg onload=alert(1)>",
    "&lt;b&gt;",
    "a\n\n**b** [x](javascript:alert(1)) ![i](http://evil.example/i.png)",
    "{{7*7}} ${7*7} `",
    "$$\\href{javascript:alert(1)}{x}$$",
]


class Reader(HTMLParser):
    """Collects the elements and attributes that a browser would see."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.attributes: list[str] = []
        self.text = ""

    def handle_starttag(self, tag, attrs):
        self.names.append(tag)
        self.attributes += [name for name, _ in attrs]

    def handle_data(self, data):
        self.text += data


def pieces(word: str) -> list[Html]:
    """Every piece, with the word in every place that takes one."""
    message = {"role": word, "content": word}
    token = {"id": word, "text": word, "trained": True, "cut": True, "special": True}
    return [
        render.heading(word, word),
        render.chip(word),
        render.card(word, title=word, aside=word),
        render.bar(0.5, label=word),
        render.facts([(word, word, word)]),
        render.key_values([(word, word)]),
        render.table([word], [[word]], caption=word),
        render.note(word, word, action=word),
        render.empty(word, word, word),
        render.steps([(word, word)]),
        render.sparkline([1, 2], label=word),
        render.tokens({"tokens": [token]}, TokenLabels(word, word, word)),
        render.transcript([message, {"role": "user", "content": word}], T),
        render.problems([problem(word, field=word, value=word)], T),
        render.log([word]),
        render.code(word),
        render.events([(word, word, "plain")]),
        render.columns(word),
        render.tag("p", word, title=word, data_x=word),
        render.link(word, "/runs"),
    ]


@pytest.mark.parametrize("word", NASTY)
def test_no_piece_lets_an_element_or_attribute_in(word):
    for nasty, plain in zip(pieces(word), pieces("word"), strict=True):
        read, expected = Reader(), Reader()
        read.feed(nasty.replace("↵<br>", ""))
        expected.feed(plain)
        assert read.names == expected.names, nasty
        assert read.attributes == expected.attributes, nasty


@given(st.text())
def test_any_text_comes_out_as_it_went_in(word):
    read = Reader()
    read.feed(render.tag("pre", word))
    read.close()
    assert read.text.replace("\r", "\n") == word.replace("\r", "\n") or "\x00" in word


@given(st.text(max_size=40))
def test_any_text_can_stand_in_an_attribute(word):
    made = render.tag("p", title=word)
    read = Reader()
    read.feed(made)
    assert read.names == ["p"] and read.attributes == ["title"]


@pytest.mark.parametrize(
    "href",
    ["javascript:alert(1)", "http://evil.example", "//evil.example", "/\\evil.example", "", "data:text/html,x", "runs"],
)
def test_a_link_leads_only_to_this_site(href):
    with pytest.raises(ValueError, match="address"):
        render.link("x", href)


def test_every_public_piece_returns_html():
    makers = [
        one
        for name, one in inspect.getmembers(render, inspect.isfunction)
        if one.__module__ == "app.render" and not name.startswith("_")
    ]
    assert len(makers) > 20
    assert all(str(inspect.signature(one).return_annotation) == "Html" for one in makers)


@pytest.mark.parametrize("share", [None, -1.0, 0.0, 0.5, 2.0, math.nan, math.inf])
def test_a_bar_is_never_wider_than_its_box(share):
    made = render.bar(share)
    assert "width:-" not in made and "nan" not in made and "width:2" not in made


def test_a_sparkline_leaves_gaps_where_values_are_missing():
    made = render.sparkline([1.0, 2.0, None, math.nan, 3.0, 2.0])
    assert made.count("<polyline") == 2
    assert "nan" not in made
    assert render.sparkline([1.0]) == "" and render.sparkline([None, None]) == ""


def test_html_stays_html_when_added_to_text():
    assert Html("<b></b>") + "<" == "<b></b>&lt;"


def test_a_panel_refuses_what_render_did_not_make():
    with pytest.raises(TypeError):
        Panel("<b>")  # type: ignore[arg-type]


def test_a_panel_keeps_blank_lines_from_ending_its_block():
    """Markdown would read what follows a blank line as markdown again."""
    assert "\n" not in (Panel().postprocess(render.log(["a", "", "**b**"])) or "")
