"""Plain conversations are read at once; what is read is the same, and what is unusual is left to the careful way."""

from __future__ import annotations

import io
import json
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.data import chunks
from engine.data.piece import Place, convert
from engine.data.plain import plain_batch
from engine.data.reading_json import rows_of
from engine.data.shape import shape_of

USER, ANSWER = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
SYSTEM = {"role": "system", "content": "s"}
PLAIN = {"messages": [USER, ANSWER]}
SHAPES = {
    "messages": shape_of([(1, PLAIN)], None, {}),
    "sharegpt": shape_of(
        [(1, {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]})], None, {}
    ),
}
WRITTEN = {
    "messages": ("messages", "role", "content", ("user", "assistant", "system")),
    "sharegpt": ("conversations", "from", "value", ("human", "gpt", "system")),
}
texts = st.one_of(
    st.text(st.characters(exclude_categories=("Cs",)), max_size=20),
    st.text(st.sampled_from('a"\\/\n\t\r\b\f\0\x07\x1f\x7f é€\U0001f600\u2028\u3000\U000f0000:{}[],'), max_size=12),
    st.sampled_from(["question", "an answer", "<|im_end|>", "\u200b"]),
)
speakers = st.one_of(
    st.integers(1, 5).map(lambda count: [0, 1] * count),
    st.integers(1, 5).map(lambda count: [2, *[0, 1] * count]),
    st.lists(st.integers(0, 2), max_size=4),
)
conversations = speakers.flatmap(lambda roles: st.tuples(*(st.tuples(st.just(role), texts) for role in roles)))


def both_ways(shape, text):
    """The piece as it is made, and as it is made row by row."""
    begin, end = io.BytesIO(text), Place(len(text), 1 + text.count(b"\n"))
    (made,) = chunks.pieces(begin, 1, shape, 0)
    return made, convert(shape, rows_of(text, 1), end)


def assert_same(made, careful):
    assert made.digests == careful.digests and made.problems == careful.problems and made.next == careful.next
    assert (made.table is None) == (careful.table is None)
    if made.table is not None:
        made.table.validate(full=True)
        assert made.table.schema == careful.table.schema and made.table.to_pylist() == careful.table.to_pylist()
    mine, other = made.tally, careful.tally
    assert (mine.rows, mine.usable, mine.bad, mine.shown) == (other.rows, other.usable, other.bad, other.shown)
    assert mine.statistics.as_dict() == other.statistics.as_dict()
    assert mine.statistics.warnings() == other.statistics.warnings()


@given(st.lists(conversations, min_size=1, max_size=5), st.sampled_from(sorted(SHAPES)), st.booleans(), st.booleans())
@settings(max_examples=300, deadline=None)
def test_both_ways_make_the_same_of_any_conversations(rows, kind, ascii_only, spaced):
    column, speaker, text, words = WRITTEN[kind]
    lines = [
        json.dumps(
            {column: [{speaker: words[role], text: said} for role, said in row]},
            ensure_ascii=ascii_only,
            separators=None if spaced else (",", ":"),
        )
        for row in rows
    ]
    assert_same(*both_ways(SHAPES[kind], ("\n".join(lines) + "\n").encode()))


@pytest.mark.parametrize("kind", sorted(SHAPES))
def test_plain_conversations_are_read_at_once(kind):
    column, speaker, text, words = WRITTEN[kind]
    said = 'a "quoted" \\ line\n\tof é, \U0001f600 and \x07'
    rows = [
        {column: [{speaker: words[role], text: f"{said} {role}"} for role in roles]}
        for roles in ([0, 1], [2, 0, 1], [0, 1, 0], [0, 1] * 200)
    ]
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    assert plain_batch(SHAPES[kind], lines) is not None
    assert_same(*both_ways(SHAPES[kind], lines))


def row(*turns, **more):
    return json.dumps({"messages": turns, **more})


@pytest.mark.parametrize(
    "line",
    [
        "",
        "{}",
        "[]",
        '{"messages": null}',
        '{"messages": []}',
        "{broken",
        row(USER),
        row(ANSWER, USER),
        row(USER, SYSTEM, ANSWER),
        row(SYSTEM, USER),
        row(USER, USER, ANSWER),
        row(USER, None, ANSWER),
        row(USER, ANSWER, id=1),
        row(USER, {**ANSWER, "weight": 0}),
        row(USER, {"role": "assistant"}),
        row(USER, {"role": "assistant", "content": None}),
        row(USER, {"role": "assistant", "content": 5}),
        row(USER, {"role": "assistant", "content": ""}),
        row(USER, {"role": "assistant", "content": "\u3000 "}),
        row(USER, {"role": "assistant", "content": "\0"}),
        row(USER, {"role": "assistant", "content": "\U000f0001"}),
        row(USER, {"role": "assistant", "content": "\ud800"}),
        row(USER, {"role": "assistant", "content": [{"type": "text", "text": "a"}]}),
        row(USER, {"role": "model", "content": "a"}),
        row({"role": "developer", "content": "s"}, USER, ANSWER),
        row(USER, ANSWER) + row(USER, ANSWER),
        row(USER, ANSWER) + "\r",
        row(USER, ANSWER) + ",",
        " " + row(USER, ANSWER),
        row(USER, ANSWER).replace("[", "\n["),
        row(USER, ANSWER).replace('"q"', '"q", "content": "q"'),
        row(USER, ANSWER).replace('{"messages"', '{"messages": [], "messages"'),
        row(USER, ANSWER).replace('"q"', '"a\tb"'),
        row(USER, ANSWER).replace('"q"', r'"\x"'),
        row(USER, ANSWER).replace('"q"', "NaN"),
        row(USER, ANSWER).replace("]", ",]"),
    ],
)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_an_unusual_line_is_left_to_the_careful_way(line, place):
    lines = [json.dumps(PLAIN)] * 2
    lines.insert(place, line)
    text = ("\n".join(lines) + "\n").encode()
    assert plain_batch(SHAPES["messages"], text) is None
    assert_same(*both_ways(SHAPES["messages"], text))


SPOILERS = [bytes([code]) for code in b'{}[]",:\\ \n\r\t0a'] + [
    b"",
    b"null",
    b"}\n{",
    b'"content":',
    b'\\"',
    b"\\ud800",
    b"\xe3\x80\x80",
]


@given(
    st.lists(st.tuples(st.integers(0, 200), st.integers(0, 3), st.sampled_from(SPOILERS)), min_size=1, max_size=4),
    st.booleans(),
)
@settings(max_examples=500, deadline=None)
def test_both_ways_make_the_same_of_spoiled_lines(changes, with_system):
    text = "".join(row(*([SYSTEM] * with_system), USER, ANSWER) + "\n" for _ in range(2)).encode()
    for place, length, spoiler in changes:
        text = text[:place] + spoiler + text[place + length :]
    text = text.rstrip(b"\n") + b"\n"
    assert_same(*both_ways(SHAPES["messages"], text))


def test_a_text_of_any_space_alone_says_nothing():
    spaces = [chr(code) for code in range(1, sys.maxunicode) if chr(code).isspace()]
    assert len(spaces) > 20
    for one in spaces:
        assert plain_batch(SHAPES["messages"], (row(USER, {**ANSWER, "content": one}) + "\n").encode()) is None


def test_a_file_that_shares_something_is_left_to_the_careful_way():
    shape = shape_of([(1, {**PLAIN, "split": "test"})], None, {})
    assert plain_batch(shape, (row(USER, ANSWER) + "\n").encode()) is None


def test_chunks_of_both_kinds_come_in_their_order_from_threads_and_processes(monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 2000)
    odd = {40: "{broken", 41: row(USER), 120: row(USER, ANSWER, id=1), 199: ""}
    lines = [odd.get(number) or row({**USER, "content": f"q {number}"}, ANSWER) for number in range(200)]
    text = ("\n".join(lines) + "\n").encode()
    alone, together = (list(chunks.pieces(io.BytesIO(text), 1, SHAPES["messages"], count)) for count in (0, 2))
    assert len(alone) == len(together) > 5
    for one, other in zip(together, alone, strict=True):
        assert_same(one, other)
