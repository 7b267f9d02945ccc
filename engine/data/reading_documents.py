"""Documents to be learned whole: prose, PDF and Word files; a long one becomes several rows, cut between paragraphs."""

from __future__ import annotations

import codecs
import zipfile
from collections.abc import Iterable, Iterator
from typing import IO

from engine.data.source import Rows
from engine.formats.messages_of import MAX_ROW_CHARACTERS
from engine.specs.problem import ProblemError, problem

CHUNK_BYTES = 1 << 20
HEAD_BYTES = 4096
MAX_PAGES = 20_000
MAX_PARTS = 5_000
MAX_PARTS_BYTES = 256 * 2**20
MAX_XML_BYTES = 32 * 2**20
OFFICE = {"word/document.xml": "docx", "xl/workbook.xml": "Excel", "ppt/presentation.xml": "PowerPoint"}
OFFICE_MARK = b"[Content_Types].xml"
_UNREADABLE = {0: "\ufffd", **dict.fromkeys(range(0xD800, 0xE000), "\ufffd")}


def read_text(handle: IO[bytes]) -> Rows:
    """The text of a file that was checked to be UTF-8."""
    reader = codecs.getreader("utf-8")(handle)
    return _rows(iter(lambda: reader.read(CHUNK_BYTES), ""))


def read_pdf(handle: IO[bytes]) -> Rows:
    """The text of a PDF file, page after page.

    Raises:
        ProblemError: while it is read: it is broken or encrypted, or holds no text, as a scan does not.
    """
    return _rows(_told("PDF", _pages(handle)))


def read_docx(handle: IO[bytes]) -> Rows:
    """The text of a Word file: its paragraphs, and its tables with a tab between two cells.

    Raises:
        ProblemError: while it is read: it is broken, too large inside, or holds no text.
    """
    return _rows(_told("Word", _paragraphs(handle)))


def kind_of_zip(handle: IO[bytes]) -> str:
    """`docx`, or the name of what else a ZIP archive holds; its parts are judged by what its directory states.

    Raises:
        ProblemError: it is a Word file that is broken, or unpacks to more than is read.
    """
    is_office = OFFICE_MARK in handle.read(HEAD_BYTES)
    handle.seek(0)
    try:
        with zipfile.ZipFile(handle) as archive:
            parts = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, EOFError) as error:
        if not is_office:
            return "ZIP"
        raise ProblemError([problem("file_document_broken", kind="Word", detail=type(error).__name__)]) from error
    finally:
        handle.seek(0)
    names = {part.filename for part in parts}
    kind = next((kind for name, kind in OFFICE.items() if name in names), "ZIP")
    xml = max((part.file_size for part in parts if part.filename.endswith((".xml", ".rels"))), default=0)
    whole = sum(part.file_size for part in parts)
    if kind == "docx" and (len(parts) > MAX_PARTS or whole > MAX_PARTS_BYTES or xml > MAX_XML_BYTES):
        raise ProblemError([problem("file_too_large", bytes=whole, limit=MAX_XML_BYTES)])
    return kind


def _rows(pieces: Iterable[str]) -> Rows:
    for number, text in enumerate(passages(pieces), 1):
        yield number, {"text": text}


def passages(pieces: Iterable[str]) -> Iterator[str]:
    """A long text in parts that a row can hold, cut between two paragraphs, or lines, or words."""
    held = ""
    for piece in pieces:
        held += piece
        while len(held) > MAX_ROW_CHARACTERS:
            end = _last_border(held)
            yield held[:end]
            held = held[end:]
    if held.strip():
        yield held


def _last_border(text: str) -> int:
    for border in ("\n\n", "\n", " "):
        at = text.rfind(border, 1, MAX_ROW_CHARACTERS - len(border))
        if at > 0:
            return at + len(border)
    return MAX_ROW_CHARACTERS


def _told(kind: str, pieces: Iterator[str]) -> Iterator[str]:
    """The pieces; whatever the library fails with, and a document without text, is told as a problem."""
    some = False
    try:
        for piece in pieces:
            some = some or not piece.isspace()
            yield piece.translate(_UNREADABLE)
    except ProblemError:
        raise
    except Exception as error:
        raise ProblemError([problem("file_document_broken", kind=kind, detail=type(error).__name__)]) from error
    if not some:
        raise ProblemError([problem("file_document_empty", kind=kind)])


def _pages(handle: IO[bytes]) -> Iterator[str]:
    import pypdf

    reader = pypdf.PdfReader(handle, strict=False)
    if reader.is_encrypted and not _opens_without_password(reader):
        raise ProblemError([problem("file_document_encrypted", kind="PDF")])
    if len(reader.pages) > MAX_PAGES:
        raise ProblemError([problem("file_too_many_pages", pages=len(reader.pages), limit=MAX_PAGES)])
    for page in reader.pages:
        yield page.extract_text() + "\n\n"


def _opens_without_password(reader: object) -> bool:
    try:
        return bool(reader.decrypt(""))  # type: ignore[attr-defined]
    except Exception:  # a missing cipher, a broken dictionary: either way it stays closed
        return False


def _paragraphs(handle: IO[bytes]) -> Iterator[str]:
    import docx
    from docx.table import Table

    for block in docx.Document(handle).iter_inner_content():
        if isinstance(block, Table):
            for row in block.rows:
                yield "\t".join(cell.text for cell in row.cells) + "\n"
        else:
            yield block.text + "\n"
