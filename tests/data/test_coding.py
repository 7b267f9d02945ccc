"""Text is UTF-8 to its end, or refused with its first bad byte."""

from __future__ import annotations

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.data import coding
from engine.specs.problem import ProblemError

PIECES = ["a", "é", "€", "\U0001f600", "\n", " "]
BAD = [b"\xff", b"\x80", b"\xe2\x82", b"\xf0\x9f\x98", b"\xed\xa0\x80", b"\xc0\xaf"]


@given(st.lists(st.sampled_from([*(one.encode() for one in PIECES), *BAD]), min_size=1, max_size=40), st.integers(1, 9))
@settings(max_examples=400, deadline=None)
def test_the_first_bad_byte_is_named_wherever_the_reading_was_cut(pieces, chunk):
    text = b"x" + b"".join(pieces)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(coding, "CHUNK_BYTES", chunk)
        try:
            handle, _ = coding.as_utf8(io.BytesIO(text), io.BytesIO(), text[:4])
            found = None
        except ProblemError as error:
            found = error.problems[0]
    try:
        text.decode("utf-8")
    except UnicodeDecodeError as error:
        assert found is not None and found.code == "file_not_utf8"
        assert found.values == {"offset": error.start, "byte": f"0x{text[error.start]:02X}"}
        assert found.where.line == 1 + text[: error.start].count(b"\n")
    else:
        assert found is None and handle.read() == text
