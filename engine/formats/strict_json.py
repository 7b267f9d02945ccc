"""JSON as the standard has it and no laxer: no duplicate keys, no NaN, no endless numbers, no deep nests.

orjson does the work; what it lets pass (duplicate keys, integers that it rounds) is found by counting, and only
suspicious texts are parsed again by the slow, exact parser.
"""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

import orjson

MAX_DEPTH = 64
_ROUNDED = 1e18
"""Integers beyond 64 bits come out of orjson as floats of at least this size."""
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
    if _keys_of(value) == _counted_keys(text) and text.count(b"[") + text.count(b"{") <= MAX_DEPTH:
        return value
    return exact(text.decode("utf-8"))


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
    """How many keys the text has at least: a colon follows each key's quote.

    A quote in a string is always escaped, so it is told apart, except after an escaped backslash, where the count is
    made to differ from any other.
    """
    if b'\\\\"' in text or ((b" :" in text or b"\t:" in text) and _SPACED_COLON.search(text)):
        return UNSURE
    return text.count(b'":') - text.count(b'\\":')


def _keys_of(value: Any) -> int:
    """The keys of all objects in a value; a count that equals no other where a number may have been rounded."""
    count = 0
    waiting = [value]
    for item in waiting:
        kind = type(item)
        if kind is dict:
            count += len(item)
            waiting += item.values()
        elif kind is list:
            waiting += item
        elif kind is float and not -_ROUNDED < item < _ROUNDED:
            return ROUNDED
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
