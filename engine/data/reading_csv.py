"""CSV and its kin: the delimiter is found, ragged rows are refused, nothing is guessed about types."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from typing import IO, Any

from engine.specs.problem import Problem, ProblemError, problem

DELIMITERS = (",", "\t", ";", "|")
MAX_FIELD = 4_000_000
MAX_COLUMNS = 1000
MAX_NAME = 40
_NAME = re.compile(rb'"?[A-Za-z_][\w .-]{0,39}"?')


def looks_like_table(head: bytes, *, strictly: bool = False) -> bool:
    """Whether the start of a file is a table of at least two columns; `strictly` where prose is as likely."""
    delimiter, width = _sniff(head)
    return delimiter != "" and width >= 2 and (not strictly or _is_plain(head, delimiter))


def is_one_column(head: bytes) -> bool:
    """Whether the start of a file can be a table of one column: a name of one word, and more below it."""
    first, _, rest = head.strip().partition(b"\n")
    return _NAME.fullmatch(first.strip()) is not None and bool(rest.strip())


def read_table(handle: IO[bytes], head: bytes) -> Iterator[tuple[int, dict[str, Any] | Problem]]:
    """The rows under the header, each with the line on which it starts; a row of another width is a problem.

    Raises:
        ProblemError: the header cannot be used.
    """
    csv.field_size_limit(MAX_FIELD)
    text = io.TextIOWrapper(handle, encoding="utf-8", newline="")
    try:
        reader = csv.reader(text, delimiter=_sniff(head)[0] or DELIMITERS[0], strict=True)
        header = _header(reader)
        yield from _body(reader, header)
    finally:
        with suppress(ValueError):  # closed before the last row was read
            text.detach()


def _body(reader: Any, header: list[str]) -> Iterator[tuple[int, dict[str, Any] | Problem]]:
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            yield line, problem("row_bad_csv", line=line, detail=str(error))
            continue
        if cells is None:
            return
        if not cells:
            continue
        if len(cells) != len(header):
            yield line, problem("row_ragged", line=line, given=len(cells), expected=len(header))
            continue
        yield line, dict(zip(header, cells, strict=True))


def _header(reader: Any) -> list[str]:
    try:
        header = [name.strip() for name in next(reader, [])]
    except csv.Error as error:
        raise ProblemError([problem("file_bad_header", line=1, detail=str(error))]) from error
    twice = [name for name, count in Counter(header).items() if count > 1 or not name]
    if twice or len(header) > MAX_COLUMNS:
        raise ProblemError([problem("file_bad_header", line=1, detail=twice[0] if twice else str(len(header)))])
    return header


def _sniff(head: bytes) -> tuple[str, int]:
    """The delimiter that cuts the first lines into equally many cells, and their number; nothing if none does."""
    text = head.decode("utf-8", errors="ignore")
    best = ("", 0, 0.0)
    for delimiter in DELIMITERS:
        widths = _widths(text, delimiter)
        if not widths or widths[0] < 2:
            continue
        agreeing = sum(width == widths[0] for width in widths) / len(widths)
        if agreeing >= 0.5 and agreeing > best[2]:
            best = (delimiter, widths[0], agreeing)
    return best[0], best[1]


def _is_plain(head: bytes, delimiter: str) -> bool:
    """Whether the first rows all have as many cells as the header, whose names are short: prose has commas too."""
    text = head.decode("utf-8", errors="ignore")
    widths = _widths(text, delimiter)
    names = text.split("\n", 1)[0].split(delimiter)
    return len(widths) > 1 and len(set(widths)) == 1 and all(0 < len(name.strip()) <= MAX_NAME for name in names)


def _widths(text: str, delimiter: str) -> list[int]:
    """Cells in each of the first rows; the last row of the piece may be cut off and is left out."""
    csv.field_size_limit(MAX_FIELD)
    widths = []
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=False)
    try:
        for cells in reader:
            if cells:
                widths.append(len(cells))
            if len(widths) > 50:
                break
    except csv.Error:
        return widths
    return widths[:-1] if len(widths) > 2 else widths
