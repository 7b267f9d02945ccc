"""Text of any coding that marks itself, as UTF-8; other text is refused with its first bad byte."""

from __future__ import annotations

import codecs
from array import array
from typing import IO

from engine.specs.problem import Problem, ProblemError, problem

CHUNK_BYTES = 1 << 20
LEADING = 0xC0
"""What a byte is at least that begins a character of several."""
BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def as_utf8(handle: IO[bytes], scratch: IO[bytes], head: bytes) -> tuple[IO[bytes], list[Problem]]:
    """A handle on the same text as UTF-8 without a byte order mark, checked to its end.

    Raises:
        ProblemError: it is no such text.
    """
    coding = next((name for mark, name in BYTE_ORDER_MARKS if head.startswith(mark)), None)
    if coding is not None:
        _transcode(handle, scratch, coding)
        return scratch, [problem("file_converted", coding=coding.upper())]
    start = len(codecs.BOM_UTF8) if head.startswith(codecs.BOM_UTF8) else 0
    handle.seek(start)
    if not _is_utf8(handle):
        handle.seek(start)
        _check_utf8(handle, start)
    handle.seek(start)
    if b"\r" in head and b"\n" not in head:
        for chunk in iter(lambda: handle.read(CHUNK_BYTES), b""):
            scratch.write(chunk.replace(b"\r", b"\n"))
        scratch.seek(0)
        return scratch, []
    return handle, []


def _is_utf8(handle: IO[bytes]) -> bool:
    """Whether what follows is surely text that says something: told in a tenth of the time that decoding takes."""
    rest, has_text = b"", False
    while chunk := handle.read(CHUNK_BYTES):
        text = rest + chunk
        last = next((size for size in (1, 2, 3) if text[-size:][0] >= LEADING), 0)  # may go on in the next chunk
        text, rest = text[: len(text) - last], text[len(text) - last :]
        if not _is_valid(text):
            return False
        has_text = has_text or not chunk.isspace()
    return has_text and _is_valid(rest)


def _is_valid(text: bytes) -> bool:
    import pyarrow

    ends = pyarrow.py_buffer(array("i", [0, len(text)]))
    try:
        pyarrow.StringArray.from_buffers(1, ends, pyarrow.py_buffer(text)).validate(full=True)
    except pyarrow.ArrowInvalid:
        return False
    return True


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
