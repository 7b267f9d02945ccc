"""What lies in an uploaded file: recognised by its content, never by its name, and read strictly."""

from __future__ import annotations

import codecs
import os
import re
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from engine.data.reading_csv import looks_like_table, read_table
from engine.data.reading_json import read_lines, read_values, wraps_rows
from engine.data.reading_parquet import read_parquet
from engine.specs.limits import max_file_bytes
from engine.specs.problem import Problem, ProblemError, problem

RowOrProblem = dict[str, Any] | Problem

HEAD_BYTES = 65536
CHUNK_BYTES = 1 << 20

BINARY = (
    (b"\x80\x02", "pickle"),
    (b"\x80\x03", "pickle"),
    (b"\x80\x04", "pickle"),
    (b"\x80\x05", "pickle"),
    (b"PK\x03\x04", "ZIP"),
    (b"\x1f\x8b", "gzip"),
    (b"\x28\xb5\x2f\xfd", "Zstandard"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ", "xz"),
    (b"ARROW1", "Arrow"),
    (b"\x93NUMPY", "NumPy"),
    (b"SQLite format 3", "SQLite"),
    (b"GGUF", "GGUF"),
    (b"%PDF", "PDF"),
    (b"\x89PNG", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"\xd0\xcf\x11\xe0", "Microsoft Office"),
)
BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
ENDINGS = {
    "jsonl": ("jsonl", "ndjson", "json", "txt"),
    "json": ("json", "jsonl"),
    "csv": ("csv", "tsv", "txt"),
    "parquet": ("parquet", "pq"),
}


@dataclass(frozen=True, slots=True)
class Source:
    """An opened file: its container, what its numbers count (`line` or `row`), and its rows, each with its number."""

    container: str
    place: str
    rows: Iterator[tuple[int, RowOrProblem]]
    warnings: tuple[Problem, ...] = ()
    lines: IO[bytes] | None = None
    """The file itself where each of its lines is a row: reading can begin at any line."""
    start: int = 0
    """Where in `lines` the first row begins."""
    size: int = 0
    """Where `lines` ends."""


@contextmanager
def open_rows(path: Path, *, source_name: str | None = None) -> Iterator[Source]:
    """Open a file of rows; `source_name` is its name as people know it.

    Raises:
        ProblemError: it cannot be read as a whole; also while its rows are read.
    """
    with _opened(path) as handle, tempfile.TemporaryFile() as scratch:
        head = handle.read(HEAD_BYTES)
        handle.seek(0)
        if head[:4] == b"PAR1":
            yield _named(Source("parquet", "row", read_parquet(handle)), source_name)
            return
        _refuse_binary(head)
        text, warnings = _as_utf8(handle, scratch, head)
        yield _named(_text_source(text, warnings), source_name)


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    try:
        number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise ProblemError([problem("file_unreadable", detail=os.strerror(error.errno or 0))]) from error
    state = os.fstat(number)
    if not stat.S_ISREG(state.st_mode):
        os.close(number)
        raise ProblemError([problem("file_not_regular")])
    with os.fdopen(number, "rb") as handle:
        if state.st_size > (limit := max_file_bytes()):
            raise ProblemError([problem("file_too_large", bytes=state.st_size, limit=limit)])
        if state.st_size == 0:
            raise ProblemError([problem("file_empty")])
        yield handle


def _refuse_binary(head: bytes) -> None:
    if any(head.startswith(mark) for mark, _ in BYTE_ORDER_MARKS):
        return
    guess = next((name for magic, name in BINARY if head.startswith(magic)), None)
    if guess is not None:
        raise ProblemError([problem("file_binary", guess=guess)])
    zeros = head.count(b"\0")
    if zeros and zeros >= len(head) // 4 and (set(head[0:200:2]) == {0} or set(head[1:200:2]) == {0}):
        raise ProblemError([problem("file_utf16_unmarked")])


def _as_utf8(handle: IO[bytes], scratch: IO[bytes], head: bytes) -> tuple[IO[bytes], list[Problem]]:
    """A handle on the same text as UTF-8 without a byte order mark, checked to its end."""
    coding = next((name for mark, name in BYTE_ORDER_MARKS if head.startswith(mark)), None)
    if coding is not None:
        _transcode(handle, scratch, coding)
        return scratch, [problem("file_converted", coding=coding.upper())]
    start = len(codecs.BOM_UTF8) if head.startswith(codecs.BOM_UTF8) else 0
    handle.seek(start)
    _check_utf8(handle, start)
    handle.seek(start)
    if b"\r" in head and b"\n" not in head:
        for chunk in iter(lambda: handle.read(CHUNK_BYTES), b""):
            scratch.write(chunk.replace(b"\r", b"\n"))
        scratch.seek(0)
        return scratch, []
    return handle, []


def _check_utf8(handle: IO[bytes], offset: int) -> None:
    decoder = codecs.getincrementaldecoder("utf-8")()
    line, has_text = 1, False
    while chunk := handle.read(CHUNK_BYTES):
        pending = len(decoder.getstate()[0])
        try:
            decoder.decode(chunk)
        except UnicodeDecodeError as error:
            at = offset - pending + error.start
            bad = error.object[error.start]
            line += error.object[: error.start].count(b"\n")
            raise ProblemError([problem("file_not_utf8", line=line, offset=at, byte=f"0x{bad:02X}")]) from error
        offset += len(chunk)
        line += chunk.count(b"\n")
        has_text = has_text or not chunk.isspace()
    if cut_off := decoder.getstate()[0]:
        at = offset - len(cut_off)
        raise ProblemError([problem("file_not_utf8", line=line, offset=at, byte=f"0x{cut_off[0]:02X}")])
    if not has_text:
        raise ProblemError([problem("file_empty")])


def _transcode(handle: IO[bytes], scratch: IO[bytes], coding: str) -> None:
    decoder = codecs.getincrementaldecoder(coding)()
    try:
        for chunk in iter(lambda: handle.read(CHUNK_BYTES), b""):
            scratch.write(decoder.decode(chunk).encode("utf-8"))
        scratch.write(decoder.decode(b"", final=True).encode("utf-8"))
    except UnicodeError as error:
        raise ProblemError([problem("file_bad_coding", coding=coding.upper())]) from error
    scratch.seek(0)


def _text_source(handle: IO[bytes], warnings: list[Problem]) -> Source:
    start = handle.tell()
    head = handle.read(HEAD_BYTES)
    handle.seek(start)
    shape = _shape(head)
    if shape is not None:
        readers = {"lines": ("jsonl", "line", read_lines), "values": ("json", "row", read_values)}
        container, place, reader = readers[shape]
        source = Source(container, place, reader(handle), tuple(warnings))
        return replace(source, lines=handle, start=start, size=_end(handle, start)) if shape == "lines" else source
    if looks_like_table(head):
        return Source("csv", "line", read_table(handle, head), tuple(warnings))
    raise ProblemError([problem("file_unknown_shape")])


def _end(handle: IO[bytes], back_to: int) -> int:
    end = handle.seek(0, os.SEEK_END)
    handle.seek(back_to)
    return end


_OPENING = re.compile(rb"\s*([\[{])")


def _shape(head: bytes) -> str | None:
    """`lines` for one JSON object a line, `values` for an array or objects over several lines, None for no JSON."""
    whole = [line.strip() for line in head.split(b"\n")[:-1] if line.strip()][:50]
    lines = whole or [head.strip()]
    opening = _OPENING.match(head)
    objects = sum(line.startswith(b"{") for line in lines)
    if opening is None:
        return "lines" if objects * 2 > len(lines) else None
    if opening.group(1) == b"[":
        return "lines" if objects * 2 > len(lines) and lines[0].endswith(b"]") else "values"
    if len(lines) == 1 and len(head) < HEAD_BYTES and wraps_rows(head):
        return "values"
    if lines[0] in (b"{", b"{}") or (objects * 2 <= len(lines) and len(lines) > 1) or not _closed(lines[0], head):
        return "values"
    return "lines"


def _closed(first: bytes, head: bytes) -> bool:
    """Whether the first line ends with the object's end, or goes on beyond what was looked at."""
    return first.endswith((b"}", b"},")) or len(first) >= len(head.strip()) or b"\n{" in head


def _named(source: Source, source_name: str | None) -> Source:
    ending = (source_name or "").rsplit(".", 1)[-1].lower() if "." in (source_name or "") else ""
    if not ending or ending in ENDINGS[source.container]:
        return source
    said = problem("file_other_ending", ending=ending[:20], found=source.container)
    return replace(source, warnings=(*source.warnings, said))
