"""JSON as the standard has it and no laxer: no duplicate keys, no NaN, no endless numbers, no deep nests.

orjson does the work; what it lets pass (duplicate keys, integers that it rounds) is found by counting, and only
suspicious texts are parsed again by the slow, exact parser.
"""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

import numpy as np
import orjson

MAX_DEPTH = 64
_ROUNDED = 1e18
"""Integers beyond 64 bits come out of orjson as floats of at least this size."""
SHORT = 4096
"""Below so many bytes, searching is quicker than comparing every byte."""
QUOTE, COLON, BACKSLASH, SPACE = b'":\\ '
UNSURE = -1
ROUNDED = -(2**62)
"""Counts that send a text to the exact parser: far enough from each other and from real counts to stay unequal."""
_SPACED_COLON = re.compile(rb'"[ \t\r\n]+:')


class BadJson(ValueError):
    """The text is not JSON that is accepted; `code` and `values` say why."""

    def __init__(self, code: str, **values: Any) -> None:
        self.code, self.values = code, values
        super().__init__(code)


def parse(text: bytes) -> Any:
    """Parse one JSON value.

    Raises:
        BadJson: with the code of a problem.
    """
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        _explain(text, error)
    return value if _keys_of(value) == _counted_keys(text) else exact(text.decode("utf-8"))


def parse_lines(text: bytes) -> list[Any] | None:
    """Parse one JSON value a line, all at once and three times as fast; None where any line is wrong or not sure.

    A line of nothing but space has the value `Ellipsis`.
    """
    try:
        values = [orjson.loads(line) if line and not line.isspace() else ... for line in text.split(b"\n")]
    except orjson.JSONDecodeError:
        return None
    try:
        keys = sum(map(_keys_of, values))
    except BadJson:
        return None
    return values if keys == _counted_keys(text) else None


def exact(text: str) -> Any:
    """Parse one JSON value with the standard library, every rule enforced.

    Raises:
        BadJson: with the code of a problem.
    """
    try:
        value = DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise BadJson("row_not_json", detail=error.msg, column=error.colno) from error
    except RecursionError as error:
        raise BadJson("row_too_deep", limit=MAX_DEPTH) from error
    check_value(value)
    return value


def check_value(value: Any) -> None:
    """Refuse what a parser accepts but a row must not hold: deep nesting and half characters.

    Raises:
        BadJson: with the code of a problem.
    """
    _check_depth(value, MAX_DEPTH)
    try:
        orjson.dumps(value)
    except TypeError as error:  # orjson's name for a lone surrogate; huge integers were refused before
        raise BadJson("row_half_character") from error


def _counted_keys(text: bytes) -> int:
    """How many keys a text has at least: a colon follows each key's quote.

    A quote in a string is always escaped, so it is told apart, except after an escaped backslash, where the count is
    made to differ from any other.
    """
    if len(text) < SHORT:
        ended, escaped = text.count(b'":'), text.count(b'\\":') if b"\\" in text else 0
        unsure = b'\\\\":' in text if b"\\" in text else False
        spaced = b" :" in text or b"\t:" in text or b"\r:" in text or b"\n:" in text
    else:
        ended, escaped, unsure, spaced = _counted_at_once(text)
    return UNSURE if unsure or (spaced and _SPACED_COLON.search(text)) else ended - escaped


def _counted_at_once(text: bytes) -> tuple[int, int, bool, bool]:
    """The same of a long text, which is known to begin with no colon: its few colons, and what stands before each."""
    codes = np.frombuffer(text, np.uint8)
    colons = np.flatnonzero(codes == COLON)
    before = codes[colons - 1]
    quotes = colons[before == QUOTE] - 1
    escaped = quotes[codes[quotes - 1] == BACKSLASH]
    unsure = codes[escaped - 2] == BACKSLASH
    return len(quotes), len(escaped), bool(unsure.any()), bool((before <= SPACE).any())


def _keys_of(value: Any) -> int:
    """The keys of all objects in a value; a count that equals no other where a number may have been rounded."""
    count = nests = 0
    waiting = [value]
    for item in waiting:
        kind = type(item)
        if kind is dict:
            count += len(item)
            nests += 1
            waiting += item.values()
        elif kind is list:
            nests += 1
            waiting += item
        elif kind is float and not -_ROUNDED < item < _ROUNDED:
            return ROUNDED
    if nests > MAX_DEPTH:
        _check_depth(value, MAX_DEPTH)
    return count


def _check_depth(value: Any, depth_left: int) -> None:
    if depth_left < 0:
        raise BadJson("row_too_deep", limit=MAX_DEPTH)
    inner = value.values() if type(value) is dict else value if type(value) is list else ()
    for item in inner:
        if type(item) is dict or type(item) is list:
            _check_depth(item, depth_left - 1)


def _explain(text: bytes, error: orjson.JSONDecodeError) -> NoReturn:
    message = str(error)
    if "depth" in message or "recursion" in message:
        raise BadJson("row_too_deep", limit=MAX_DEPTH) from error
    if "surrogate" in message and "UTF-8" not in message:
        raise BadJson("row_half_character") from error
    if "infinity" in message:
        raise BadJson("row_bad_number", given=_around(text, error.pos)) from error
    if text[error.pos : error.pos + 3] in (b"NaN", b"Inf") or text[error.pos : error.pos + 4] == b"-Inf":
        raise BadJson("row_bad_number", given=_around(text, error.pos)) from error
    raise BadJson("row_not_json", detail=error.msg, column=error.pos + 1) from error


def _around(text: bytes, position: int) -> str:
    return text[position : position + 20].decode("utf-8", errors="replace")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        seen: set[str] = set()
        repeated = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise BadJson("row_duplicate_key", key=repeated[:80])
    return made


def _integer(digits: str) -> int:
    if len(digits) > 30:
        raise BadJson("row_bad_number", given=digits[:20])
    value = int(digits)
    if not -(2**63) <= value < 2**64:
        raise BadJson("row_bad_number", given=digits[:20])
    return value


def _float(digits: str) -> float:
    value = float(digits)
    if value in (float("inf"), float("-inf")):
        raise BadJson("row_bad_number", given=digits[:20])
    return value


def _constant(name: str) -> NoReturn:
    raise BadJson("row_bad_number", given=name)


DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_float=_float, parse_constant=_constant, strict=True
)
