"""JSON is read strictly and quickly."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.formats.strict_json import BadJson, parse, parse_lines

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def utf8(text: str) -> bytes | None:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        return None


@given(values, st.sampled_from([None, 1]), st.booleans())
@settings(max_examples=200, deadline=None)
def test_what_the_standard_library_writes_is_read_back(value, indent, ascii_only):
    text = utf8(json.dumps(value, indent=indent, ensure_ascii=ascii_only))
    if text is not None:
        try:
            assert parse(text) == value
        except BadJson as error:
            assert error.code == "row_half_character"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (b'{"a": 1, "a": 2}', "row_duplicate_key"),
        (b'{"a" : 1, "a" :2}', "row_duplicate_key"),
        (b'{"a\\\\": 1, "a\\\\": 2}', "row_duplicate_key"),
        (b'{"x": {"b": 1, "b": 2}}', "row_duplicate_key"),
        (b'{"x": ":", "b": 1, "b": 2}', "row_duplicate_key"),
        (b'{"x": NaN}', "row_bad_number"),
        (b'{"x": -Infinity}', "row_bad_number"),
        (b'{"x": 1e999}', "row_bad_number"),
        (b'{"x": 123456789012345678901234567890}', "row_bad_number"),
        (b'{"x": ' + b"9" * 5000 + b"}", "row_bad_number"),
        (b'{"x": "\\ud800"}', "row_half_character"),
        (b"[" * 100_000, "row_too_deep"),
        (b"[" * 70 + b"]" * 70, "row_too_deep"),
        (b'{"x": 1', "row_not_json"),
        (b'{"x": 1} {', "row_not_json"),
        (b"{'x': 1}", "row_not_json"),
        (b'{"x": "a\tb"}', "row_not_json"),
        (b'{"x": "\xff"}', "row_not_json"),
    ],
)
def test_what_others_let_pass_is_refused(text, code):
    with pytest.raises(BadJson) as caught:
        parse(text)
    assert caught.value.code == code


def test_quotes_colons_and_backslashes_in_texts_are_no_keys():
    value = {"a": '{"category": "x"}', "b": ': \\": ', "c": ['":', ":", "\\"], 'k":': 1}
    assert parse(json.dumps(value).encode()) == value


@given(st.binary(max_size=60))
@settings(max_examples=300, deadline=None)
def test_any_bytes_give_a_value_or_a_named_fault(text):
    try:
        parse(text)
    except BadJson as error:
        assert error.code.startswith("row_")


TRICKY = st.sampled_from(
    [
        b'{"a": 1, "a": 2}',
        b'{"a" : 1, "a" :2}',
        b'{"a\\\\": 1, "a\\\\": 2}',
        b'{"x": "say \\":\\" twice", "x\\"": "\\\\"}',
        b'{"x": NaN}',
        b'{"x": 123456789012345678901234567890}',
        b'{"x": "\\ud800"}',
        b"[" * 70 + b"]" * 70,
        b'{"x": 1',
        b" ",
        b"7",
    ]
)


@given(st.lists(TRICKY | values.map(lambda value: utf8(json.dumps(value)) or b"1"), max_size=6), st.booleans())
@settings(max_examples=300, deadline=None)
def test_lines_that_are_read_at_once_are_what_each_alone_is(lines, long):
    if long:
        lines = [*lines, b'{"pad": "' + b"x" * 5000 + b'"}']
    found = parse_lines(b"\n".join(lines))
    if found is None:
        return
    assert found == [parse(line) if line.strip() else ... for line in lines] or not lines


@pytest.mark.parametrize("pad", [0, 5000])
def test_one_line_that_is_wrong_is_not_passed_over(pad):
    good = b'{"messages": [{"role": "user", "content": "say \\":\\" twice"}], "pad": "' + b"x" * pad + b'"}'
    assert parse_lines(good + b"\n \n" + good) == [parse(good), ..., parse(good)]
    for bad in (b'{"a": 1, "a": 2}', b'{"a": NaN}', b'{"a": 1e400}', b"[" * 70 + b"]" * 70, b'{"a": "\\ud800"}', b"{"):
        assert parse_lines(good + b"\n" + bad + b"\n" + good) is None
