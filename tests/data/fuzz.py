"""Spoiled files without end: whatever the bytes, an import ends in rows or problems, in bounded time and memory.

`python -m tests.data.fuzz --seconds 60 --seed 7` takes files of the corpus, spoils their bytes, and gives them to
`inspect` in child processes. A crash, another error than a problem, a hang or a swelling ends it with 1 and keeps the
file. The seed and the number of a file, which are printed, make the same file again: `--only N`.
"""

from __future__ import annotations

import argparse
import io
import logging
import os
import random
import resource
import select
import signal
import struct
import sys
import tempfile
import time
import traceback
import zipfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import docx
import pyarrow.parquet  # noqa: F401 (warm before the children are made)
import pypdf  # noqa: F401

from engine.data.importer import Wishes, inspect
from engine.specs.problem import ProblemError
from tests.data.corpus import CONTAINERS, SHAPES, cases, pdf

BATCH = 200
MAX_SECONDS = 5.0
MAX_MB = 300
MAX_ADDRESSES = 8 * 2**30
MAX_SEED_BYTES = 100_000
Known = Sequence[Sequence[bytes]]
NAMES = (None, "rows.csv", "rows.jsonl", "text.txt", "text.md", "rows.txt.gz")
PIECES = (
    *(b"{", b"}", b"[", b"]", b'"', b":", b",", b"\n", b"\r\n", b"\\", b"\\ud800", b"null", b"NaN", b"1e999", b"\0"),
    *(b"\xff", b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"\xff\xfe\0\0", b"\xe2\x80\xa8", b";", b"\t", b"|", b"''"),
    *(b"\x1f\x8b\x08", b"PAR1", b"ARROW1\0\0", b"\xff\xff\xff\xff", b"PK\x03\x04", b"%PDF-1.4", b"\x80\x04", b"[[[["),
    *(b'"messages"', b'"role"', b'"content"', b'"chosen"', b'"label"', b"\n\nHuman: ", b"\n\nAssistant: ", b"endobj"),
)


def seeds() -> list[list[bytes]]:
    """The files to be spoiled, by their container: the corpus, and a document of each kind."""
    found = [
        sorted({case.content for shape in SHAPES for case in cases(shape, name) if len(case.content) <= MAX_SEED_BYTES})
        for name in CONTAINERS
    ]
    return [*found, *[found[0]] * 6, *[found[4]] * 3, [_word()], [pdf("Some words", "More")]]


def spoiled(source: random.Random, known: Known) -> bytes:
    """One file: a known one with a few changes, or bytes of no kind."""
    if source.random() < 0.03:
        return source.randbytes(source.randrange(2000))
    content = bytearray(source.choice(source.choice(known)))
    for _ in range(source.choice((1, 1, 2, 4, 16))):
        content = bytearray(source.choice(CHANGES)(source, content, known))
    return bytes(content[: 4 * MAX_SEED_BYTES])


def _flip(source: random.Random, content: bytearray, known: Known) -> bytes:
    if content:
        content[source.randrange(len(content))] ^= 1 << source.randrange(8)
    return bytes(content)


def _write(source: random.Random, content: bytearray, known: Known) -> bytes:
    at = source.randrange(len(content) + 1)
    number = source.choice((0, 1, 0x7F, 0xFF, 0x7FFFFFFF, 0xFFFFFFFF, source.getrandbits(32)))
    content[at : at + 4] = struct.pack("<I", number)
    return bytes(content)


def _cut(source: random.Random, content: bytearray, known: Known) -> bytes:
    start, end = sorted(source.randrange(len(content) + 1) for _ in range(2))
    return bytes(content[:start] + content[end:]) if source.random() < 0.5 else bytes(content[:end])


def _insert(source: random.Random, content: bytearray, known: Known) -> bytes:
    at = source.randrange(len(content) + 1)
    return bytes(content[:at] + source.choice(PIECES) * source.choice((1, 1, 1, 3, 70, 2000)) + content[at:])


def _splice(source: random.Random, content: bytearray, known: Known) -> bytes:
    other = source.choice(source.choice(known))
    return bytes(content[: source.randrange(len(content) + 1)]) + other[source.randrange(len(other) + 1) :]


def _head(source: random.Random, content: bytearray, known: Known) -> bytes:
    other = source.choice(source.choice(known))
    size = source.choice((4, 8, 16, 64))
    return other[:size] + bytes(content[size:])


def _repeat(source: random.Random, content: bytearray, known: Known) -> bytes:
    start, end = sorted(source.randrange(len(content) + 1) for _ in range(2))
    return bytes(content[:end] + content[start:end] * source.choice((1, 5, 50)) + content[end:])[: 4 * MAX_SEED_BYTES]


CHANGES: Sequence[Callable[[random.Random, bytearray, Known], bytes]] = (
    *(_flip, _flip, _write, _cut, _insert, _insert, _splice, _head, _repeat),
)


def _word() -> bytes:
    made = io.BytesIO()
    document = docx.Document()
    document.add_paragraph("A paragraph.")
    document.add_table(rows=1, cols=2)
    document.save(made)
    small = io.BytesIO()
    with zipfile.ZipFile(made) as whole, zipfile.ZipFile(small, "w") as stored:  # stored: a change meets the XML
        for part in whole.infolist():
            if not part.filename.endswith(".jpeg"):
                stored.writestr(zipfile.ZipInfo(part.filename), whole.read(part))
    return small.getvalue()


def one(path: Path, content: bytes, name: str | None) -> str:
    """Import a file; say how it ended.

    Raises:
        Exception: any but a problem is a fault.
    """
    path.write_bytes(content)
    try:
        found = inspect(path, Wishes(source_name=name))
    except ProblemError as error:
        assert error.problems
        return "refused"
    assert found.usable_rows or found.problem_count
    return "rows" if found.usable_rows else "problems"


def _child(seed: int, first: int, count: int, known: Known, folder: Path, out: int) -> None:
    """Import `count` files; write the number of each before it, and how it ended after it."""
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (MAX_ADDRESSES, hard))
    unraised: list[object] = []
    sys.unraisablehook = unraised.append
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(first, first + count):
        source = random.Random(f"{seed} {number}")
        content, name = spoiled(source, known), source.choice(NAMES)
        os.write(out, f"{number}\n".encode())
        started = time.process_time()  # a busy machine makes no file slow
        try:
            ended = one(folder / "upload", content, name)
        except Exception:
            traceback.print_exc()
            ended = "fault"
        if unraised:
            sys.__unraisablehook__(unraised[0])  # type: ignore[arg-type]
            ended = "fault"
        if time.process_time() - started > MAX_SECONDS:
            ended = "slow"
        if (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 > MAX_MB:
            ended = "large"
        os.write(out, f"{ended}\n".encode())
        if ended in ("fault", "slow", "large"):
            return


def _batch(seed: int, first: int, count: int, known: Known, folder: Path) -> tuple[int, Counter[str], str]:
    """Run a child; the last file's number, how files ended, and what is wrong, if anything."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.close(reading)
            _child(seed, first, count, known, folder, writing)
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    told, fault = b"", ""
    while True:
        ready, _, _ = select.select([reading], [], [], 4 * MAX_SECONDS)
        if not ready:
            os.kill(pid, signal.SIGKILL)
            fault = "hang"
            break
        piece = os.read(reading, 65536)
        if not piece:
            break
        told += piece
    os.close(reading)
    _, status = os.waitpid(pid, 0)
    words = told.decode().split()
    number = int(next((word for word in reversed(words) if word.isdigit()), first))
    endings = Counter(word for word in words if not word.isdigit())
    bad = next((word for word in ("fault", "slow", "large") if endings[word]), "")
    fault = fault or bad or (f"crash ({os.waitstatus_to_exitcode(status)})" if status else "")
    return number, endings, fault


def main(arguments: Sequence[str] | None = None) -> int:
    """Spoil and import until the time is over, or something gives way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**9))
    parser.add_argument("--only", type=int, help="the number of one file")
    parser.add_argument(
        "--keep", type=Path, default=Path(tempfile.gettempdir()), help="where a file that fails is kept"
    )
    given = parser.parse_args(arguments)
    logging.disable(logging.CRITICAL)
    known = seeds()
    _say(f"seed {given.seed}, {sum(map(len, known))} files to spoil")
    counts: Counter[str] = Counter()
    done, end = 0, time.monotonic() + given.seconds
    with tempfile.TemporaryDirectory() as name:
        while given.only is not None or time.monotonic() < end:
            first, size = (done, BATCH) if given.only is None else (given.only, 1)
            number, endings, fault = _batch(given.seed, first, size, known, Path(name))
            counts += endings
            if fault:
                kept = given.keep / f"fuzz-{given.seed}-{number}"
                kept.write_bytes(spoiled(random.Random(f"{given.seed} {number}"), known))
                _say(f"{fault}: file {number} of seed {given.seed}, kept as {kept}")
                return 1
            done += size
            if given.only is not None:
                break
    _say(f"{done} files: " + ", ".join(f"{count} {ending}" for ending, count in sorted(counts.items())))
    return 0


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
