"""JSON files: one object a line, an array, or objects one after another; never more than a row in memory."""

from __future__ import annotations

import codecs
import io
import json
import re
from collections.abc import Iterator
from typing import IO, Any

from engine.formats.strict_json import DECODER, BadJson, check_value, parse, parse_lines
from engine.specs.problem import Problem, ProblemError, problem

MAX_ROW_BYTES = 4_000_000
CHUNK_CHARACTERS = 1 << 20
MAX_WRAPPED_BYTES = 512 * 2**20

_SPACE = re.compile(r"[ \t\r\n]*")


def read_lines(handle: IO[bytes], first: int = 1) -> Iterator[tuple[int, dict[str, Any] | Problem]]:
    """One row a line, split at newlines alone; a line that is no object is a problem, the others go on.

    `first` is the number of the first line.
    """
    number = first - 1
    while line := handle.readline(MAX_ROW_BYTES + 1):
        number += 1
        if len(line) > MAX_ROW_BYTES:
            while line and not line.endswith(b"\n"):
                line = handle.readline(MAX_ROW_BYTES)
            yield number, problem("row_too_long", line=number, limit=MAX_ROW_BYTES)
            continue
        line = line.strip()
        if line:
            yield number, _row(line, number)


def rows_of(text: bytes, first: int) -> Iterator[tuple[int, dict[str, Any] | Problem]]:
    """The same of lines that are in memory, many at once."""
    values = parse_lines(text)
    if values is None or len(text) > MAX_ROW_BYTES:
        yield from read_lines(io.BytesIO(text), first)
        return
    for number, value in enumerate(values, first):
        if type(value) is dict:
            yield number, value
        elif value is not ...:
            yield number, problem("row_not_object", line=number)


def _row(line: bytes, number: int) -> dict[str, Any] | Problem:
    try:
        value = parse(line)
    except BadJson as error:
        return problem(error.code, line=number, **error.values)
    if not isinstance(value, dict):
        return problem("row_not_object", line=number)
    return value


def read_values(handle: IO[bytes]) -> Iterator[tuple[int, dict[str, Any] | Problem]]:
    """The objects of an array, of an object that wraps one array, or standing one after another.

    Raises:
        ProblemError: the JSON breaks off; what follows cannot be found again.
    """
    text = _Text(handle)
    opening = text.peek()
    if opening == "[":
        yield from _array(text)
        return
    for number, value in enumerate(_values(text), 1):
        if number == 1 and text.peek() == "" and (wrapped := _wrapped(value)) is not None:
            yield from ((index, _object(item, index)) for index, item in enumerate(wrapped, 1))
            return
        yield number, _object(value, number)


class _Text:
    """A window on a text, from which JSON values are taken one by one."""

    def __init__(self, handle: IO[bytes]) -> None:
        self._reader = codecs.getreader("utf-8")(handle)
        self._window = ""
        self._at = 0
        self._line = 1
        self._limit = MAX_ROW_BYTES

    def peek(self) -> str:
        """The next character that is no space, empty at the end."""
        while True:
            found = _SPACE.match(self._window, self._at)
            self._at = found.end() if found else self._at
            if self._at < len(self._window):
                return self._window[self._at]
            if not self._more():
                return ""

    def skip(self) -> None:
        """Go past the character that `peek` gave."""
        self._at += 1

    def value(self, limit: int) -> Any:
        """Take the next value.

        Raises:
            ProblemError: it is broken, or longer than `limit` characters.
        """
        while True:
            try:
                value, end = DECODER.raw_decode(self._window, self._at)
            except (json.JSONDecodeError, BadJson, RecursionError) as error:
                if len(self._window) - self._at > limit:
                    said = problem("file_value_too_long", line=self._line_at(self._at), limit=limit)
                    raise ProblemError([said]) from error
                if isinstance(error, json.JSONDecodeError) and self._more():
                    continue
                raise self._broken(error) from error
            if end == len(self._window) and isinstance(value, int | float) and self._more():
                continue  # a number may go on in the next piece
            self._at = end
            return value

    def _more(self) -> bool:
        piece = self._reader.read(CHUNK_CHARACTERS)
        if not piece:
            return False
        self._line += self._window.count("\n", 0, self._at)
        self._window = self._window[self._at :] + piece
        self._at = 0
        return True

    def _line_at(self, position: int) -> int:
        return self._line + self._window.count("\n", 0, position)

    def _broken(self, error: Exception) -> ProblemError:
        if isinstance(error, json.JSONDecodeError):
            line = self._line_at(error.pos)
            return ProblemError([problem("file_json_broken", line=line, detail=error.msg)])
        line = self._line_at(self._at)
        if isinstance(error, BadJson):
            return ProblemError([problem(error.code, line=line, **error.values)])
        return ProblemError([problem("row_too_deep", line=line, limit=64)])

    def broken_here(self) -> ProblemError:
        """What is said where something else was expected."""
        return ProblemError([problem("file_json_broken", line=self._line_at(self._at), detail="Expecting ',' or ']'")])


def _array(text: _Text) -> Iterator[tuple[int, dict[str, Any] | Problem]]:
    text.skip()
    number = 0
    if text.peek() == "]":
        return
    while True:
        number += 1
        yield number, _object(text.value(MAX_ROW_BYTES), number)
        following = text.peek()
        text.skip()
        if following == "]":
            break
        if following != ",":
            raise text.broken_here()
        text.peek()
    if text.peek():
        raise text.broken_here()


def _values(text: _Text) -> Iterator[Any]:
    limit = MAX_WRAPPED_BYTES
    while text.peek():
        yield text.value(limit)
        limit = MAX_ROW_BYTES
        if text.peek() == ",":
            text.skip()


def _wrapped(value: Any) -> list[Any] | None:
    """The rows of `{"data": [...]}`: an object whose one list of objects holds them."""
    if not isinstance(value, dict):
        return None
    lists = [item for item in value.values() if isinstance(item, list) and item and isinstance(item[0], dict)]
    if len(lists) != 1 or {"role", "from"} & set(lists[0][0]):
        return None
    others = [item for item in value.values() if isinstance(item, str)]
    return None if others and len(lists[0]) == 1 else lists[0]


def wraps_rows(text: bytes) -> bool:
    """Whether a text is one object around a list of rows."""
    try:
        return _wrapped(parse(text)) is not None
    except BadJson:
        return False


def _object(value: Any, number: int) -> dict[str, Any] | Problem:
    if not isinstance(value, dict):
        return problem("row_not_object", line=number)
    try:
        check_value(value)
    except BadJson as error:
        return problem(error.code, line=number, **error.values)
    return value
