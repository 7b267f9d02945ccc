"""What lies in an uploaded file: recognised by its content, never by its name, and read strictly.

Two kinds of content say nothing of themselves: prose, and a table of one column. A text that is no JSON and no table
is read as prose where its name says so (.txt, .md), and a warning says that it was; as a column in a .csv or .tsv.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from engine.data.coding import BYTE_ORDER_MARKS, as_utf8
from engine.data.opening import opened
from engine.data.reading_arrow import STREAM, is_arrow, read_arrow
from engine.data.reading_csv import is_one_column, looks_like_table, read_table
from engine.data.reading_documents import kind_of_zip, read_docx, read_pdf, read_text
from engine.data.reading_gzip import unpack
from engine.data.reading_json import read_lines, read_values, wraps_rows
from engine.data.reading_parquet import read_parquet
from engine.data.source import Source
from engine.specs.problem import Problem, ProblemError, problem

HEAD_BYTES = 65536

GZIP = b"\x1f\x8b"
ZIP = b"PK\x03\x04"
BINARY = (
    (b"\x80\x02", "pickle"),
    (b"\x80\x03", "pickle"),
    (b"\x80\x04", "pickle"),
    (b"\x80\x05", "pickle"),
    (b"PK", "ZIP"),
    (GZIP, "gzip"),
    (b"\x28\xb5\x2f\xfd", "Zstandard"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ", "xz"),
    (b"7z\xbc\xaf\x27\x1c", "7-Zip"),
    (b"Rar!", "RAR"),
    (b"FEA1", "Feather 1"),
    (b"ORC", "ORC"),
    (b"Obj\x01", "Avro"),
    (b"\x93NUMPY", "NumPy"),
    (b"\x89HDF", "HDF5"),
    (b"SQLite format 3", "SQLite"),
    (b"GGUF", "GGUF"),
    (b"\x7fELF", "ELF"),
    (b"\x89PNG", "PNG"),
    (b"GIF8", "GIF"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"RIFF", "RIFF"),
    (b"OggS", "Ogg"),
    (b"ID3", "MP3"),
    (b"fLaC", "FLAC"),
    (b"\xd0\xcf\x11\xe0", "Microsoft Office"),
)
TAR_MARK = slice(257, 262)
TABLES = ("csv", "tsv")
PROSE = {"txt": "txt", "text": "txt", "md": "md", "markdown": "md"}
ENDINGS = {
    "jsonl": ("jsonl", "ndjson", "json", "txt"),
    "json": ("json", "jsonl"),
    "csv": ("csv", "tsv", "txt"),
    "parquet": ("parquet", "pq"),
    "arrow": ("arrow", "feather", "ipc", "arrows"),
    "txt": ("txt", "text"),
    "md": ("md", "markdown"),
    "pdf": ("pdf",),
    "docx": ("docx",),
}
_BRACKET_OF_JSON = re.compile(rb"\s*\[\s*(?:[\[{\"\]\d-]|true|false|null|$)")
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f]")


@contextmanager
def open_file(path: Path, *, source_name: str | None = None) -> Iterator[Source]:
    """Open one file of rows; `source_name` is its name as people know it.

    Raises:
        ProblemError: it cannot be read as a whole; also while its rows are read.
    """
    with opened(path) as handle, tempfile.TemporaryFile() as scratch, tempfile.TemporaryFile() as unpacked:
        head = _head(handle)
        if not head.startswith(GZIP):
            yield _named(_source(handle, head, _ending(source_name or path.name), scratch), source_name)
            return
        unpack(handle, unpacked)
        head = _head(unpacked)
        if head.startswith((GZIP, ZIP)):
            raise ProblemError([problem("file_nested_archive")])
        plain_name = re.sub(r"\.gz$", "", source_name, flags=re.IGNORECASE) if source_name else None
        source = _source(unpacked, head, _ending(plain_name or path.stem), scratch)
        source = _named(source, plain_name)
        yield replace(source, container=f"{source.container}.gz")


def _head(handle: IO[bytes]) -> bytes:
    head = handle.read(HEAD_BYTES)
    handle.seek(0)
    return head


def _source(handle: IO[bytes], head: bytes, ending: str, scratch: IO[bytes]) -> Source:
    if head.startswith(b"PAR1"):
        return Source("parquet", "row", *read_parquet(handle))
    if is_arrow(head):
        return Source("arrow", "row", *read_arrow(handle, stream=head.startswith(STREAM)))
    if head.startswith(b"%PDF-"):
        return Source("pdf", "row", read_pdf(handle))
    if head.startswith(ZIP) and (kind := kind_of_zip(handle)) != "docx":
        raise ProblemError([problem("file_binary", guess=kind)])
    if head.startswith(ZIP):
        return Source("docx", "row", read_docx(handle))
    _refuse_binary(head)
    text, warnings = as_utf8(handle, scratch, head)
    return _text_source(text, warnings, ending)


def _refuse_binary(head: bytes) -> None:
    if any(head.startswith(mark) for mark, _ in BYTE_ORDER_MARKS):
        return
    guess = next((name for magic, name in BINARY if head.startswith(magic)), None)
    guess = "tar" if head[TAR_MARK] == b"ustar" else guess
    guess = "safetensors" if head[8:10] == b'{"' and b"\0" in head[:8] else guess
    if guess is not None:
        raise ProblemError([problem("file_binary", guess=guess)])
    zeros = head.count(b"\0")
    if zeros and zeros >= len(head) // 4 and (set(head[0:200:2]) == {0} or set(head[1:200:2]) == {0}):
        raise ProblemError([problem("file_utf16_unmarked")])


def _text_source(handle: IO[bytes], warnings: list[Problem], ending: str) -> Source:
    prose = PROSE.get(ending)
    start = handle.tell()
    head = handle.read(HEAD_BYTES)
    handle.seek(start)
    shape = _shape(head)
    if shape is not None and not (prose and _is_bracket_of_prose(head)):
        readers: dict[str, tuple[str, str, Callable[..., Any]]] = {
            "lines": ("jsonl", "line", read_lines),
            "values": ("json", "row", read_values),
        }
        container, place, reader = readers[shape]
        source = Source(container, place, reader(handle), tuple(warnings))
        return replace(source, lines=handle, start=start, size=_end(handle, start)) if shape == "lines" else source
    if (prose != "md" and looks_like_table(head, strictly=prose is not None)) or (
        ending in TABLES and is_one_column(head)
    ):
        return Source("csv", "line", read_table(handle, head), tuple(warnings))
    if prose is None or _CONTROL.search(head):
        raise ProblemError([problem("file_unknown_shape")])
    return Source(prose, "row", read_text(handle), (*warnings, problem("file_read_as_text")))


def _end(handle: IO[bytes], back_to: int) -> int:
    end = handle.seek(0, os.SEEK_END)
    handle.seek(back_to)
    return end


def _is_bracket_of_prose(head: bytes) -> bool:
    """Whether a text opens with a bracket that JSON cannot open with, as a link does."""
    return head.lstrip().startswith(b"[") and _BRACKET_OF_JSON.match(head) is None


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
    ending = _ending(source_name or "")
    if not ending or ending in ENDINGS[source.container]:
        return source
    said = problem("file_other_ending", ending=ending[:20], found=source.container)
    return replace(source, warnings=(*source.warnings, said))


def _ending(name: str) -> str:
    return name.rsplit(".", 1)[-1].lower() if "." in name else ""
