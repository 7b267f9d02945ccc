"""JSON lines cut into chunks at line ends, and converted by several processes side by side, in the file's order."""

from __future__ import annotations

import ctypes
import gc
import io
import multiprocessing
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from typing import IO

import numpy as np
import pyarrow

from engine.data.piece import SHOWN_ROWS, Piece, Place, convert, piece_of
from engine.data.plain import plain_batch
from engine.data.reading_json import MAX_ROW_BYTES, rows_of
from engine.data.shape import Shape
from engine.formats.strict_json import parse
from engine.specs.problem import ProblemError, problem

CHUNK_BYTES = 1 << 20
MOST_PROCESSES = 8
NEWLINE = ord("\n")
KEPT_BYTES = 32 * 2**20
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""As `malloc.h` has them."""
BYTES_A_PROCESS = 32 * 2**20
"""A process takes half a second to start: fewer for small files."""

_shape: list[Shape] = []
"""In a process of the pool, the one shape that it converts."""


def processes_for(size: int) -> int:
    """How many processes a file of `size` bytes is worth; 0 is none beside our own."""
    wanted = min(len(os.sched_getaffinity(0)), MOST_PROCESSES, size // BYTES_A_PROCESS)
    return wanted if wanted > 1 else 0


@dataclass(frozen=True, slots=True)
class Chunk:
    """Whole lines of a file, the number of the first, and where in the file they end and another line follows."""

    text: bytes
    line: int
    end: int
    next_line: int


def chunks(handle: IO[bytes], line: int) -> Iterator[Chunk]:
    """What follows in the file; of a line that is longer than a row may be only as much as shows that."""
    while text := handle.read(CHUNK_BYTES):
        if not text.endswith(b"\n"):
            rest = handle.readline(MAX_ROW_BYTES + 1)
            text += rest
            while rest and not rest.endswith(b"\n"):
                rest = handle.readline(MAX_ROW_BYTES)
            text += b"" if text.endswith(b"\n") else b"\n"
        chunk = Chunk(text, line, handle.tell(), line + int(np.count_nonzero(np.frombuffer(text, np.uint8) == NEWLINE)))
        yield chunk
        line = chunk.next_line


def pieces(handle: IO[bytes], line: int, shape: Shape, processes: int) -> Iterator[Piece]:
    """Convert the rest of the file; a few chunks wait at a time, so that memory stays flat."""
    if not processes:
        yield from (_piece(shape, chunk) for chunk in chunks(handle, line))
        return
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=spawn, initializer=_begin, initargs=(shape,)) as pool:
        waiting: deque[Future[Piece]] = deque()
        try:
            for chunk in chunks(handle, line):
                waiting.append(pool.submit(_piece_there, chunk))
                if len(waiting) > 2 * processes:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool as error:
            raise ProblemError([problem("file_beyond_limits")]) from error
        finally:
            for one in waiting:
                one.cancel()


def _begin(shape: Shape) -> None:
    _shape.append(shape)
    gc.freeze()
    gc.disable()  # it would look through all rows of a chunk again and again, of which none is garbage
    pyarrow.set_memory_pool(pyarrow.system_memory_pool())  # the other kinds keep some 10 MB more, and are no faster
    _keep_memory()


def _keep_memory() -> None:
    """Let freed memory stay with the process: a chunk needs as much as the one before it, and getting it from the
    system anew takes a quarter of a process's time."""
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):  # glibc
        library.mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
        library.mallopt(M_MMAP_THRESHOLD, KEPT_BYTES)


def _piece_there(chunk: Chunk) -> Piece:
    made = _piece(_shape[0], chunk)
    gc.collect(0)
    return made


def _piece(shape: Shape, chunk: Chunk) -> Piece:
    place = Place(chunk.end, chunk.next_line)
    batch = plain_batch(shape, chunk.text)
    if batch is None:
        return convert(shape, rows_of(chunk.text, chunk.line), place)
    first = islice(io.BytesIO(chunk.text), SHOWN_ROWS)
    return piece_of(batch, [row for line in first for row in shape.convert(parse(line), chunk.line)], place)
