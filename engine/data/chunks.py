"""JSON lines cut into chunks at line ends, and converted side by side, in the file's order."""

from __future__ import annotations

import gc
import io
import multiprocessing
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from typing import IO

import numpy as np

from engine.data.piece import SHOWN_ROWS, Piece, Place, convert, piece_of
from engine.data.plain import plain_batch
from engine.data.reading_json import MAX_ROW_BYTES, rows_of
from engine.data.shape import Shape
from engine.formats.strict_json import parse
from engine.specs.problem import ProblemError, problem

CHUNK_BYTES = 1 << 20
MOST_PROCESSES = 8
NEWLINE = ord("\n")
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
    """Whole lines of a file, the number of the first, and where the file goes on behind them."""

    text: bytes
    line: int
    next: Place


def chunks(handle: IO[bytes], line: int) -> Iterator[Chunk]:
    """What follows in the file; of a line that is longer than a row may be only as much as shows that."""
    while text := handle.read(CHUNK_BYTES):
        if not text.endswith(b"\n"):
            rest = handle.readline(MAX_ROW_BYTES + 1)
            text += rest
            while rest and not rest.endswith(b"\n"):
                rest = handle.readline(MAX_ROW_BYTES)
            text += b"" if text.endswith(b"\n") else b"\n"
        next_line = line + int(np.count_nonzero(np.frombuffer(text, np.uint8) == NEWLINE))
        yield Chunk(text, line, Place(handle.tell(), next_line))
        line = next_line


def pieces(handle: IO[bytes], line: int, shape: Shape, processes: int) -> Iterator[Piece]:
    """Convert the rest of the file; a few chunks wait at a time, so that memory stays flat.

    What is read straight into columns takes threads of ours, and leaves Python to the others most of the time; other
    chunks go to processes, which begin with the first of them.
    """
    if not processes:
        yield from (_plain_piece(shape, chunk) or _careful_piece(shape, chunk) for chunk in chunks(handle, line))
        return
    spawn = multiprocessing.get_context("spawn")
    with (
        ProcessPoolExecutor(processes, mp_context=spawn, initializer=_begin, initargs=(shape,)) as pool,
        ThreadPoolExecutor(processes) as threads,
    ):
        waiting: deque[Future[Piece]] = deque()
        try:
            for chunk in chunks(handle, line):
                waiting.append(threads.submit(_piece, shape, chunk, pool))
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


def _piece(shape: Shape, chunk: Chunk, pool: Executor) -> Piece:
    return _plain_piece(shape, chunk) or pool.submit(_careful_piece_there, chunk).result()


def _careful_piece_there(chunk: Chunk) -> Piece:
    made = _careful_piece(_shape[0], chunk)
    gc.collect(0)
    return made


def _plain_piece(shape: Shape, chunk: Chunk) -> Piece | None:
    batch = plain_batch(shape, chunk.text)
    if batch is None:
        return None
    first = islice(io.BytesIO(chunk.text), SHOWN_ROWS)
    return piece_of(batch, [row for line in first for row in shape.convert(parse(line), chunk.line)], chunk.next)


def _careful_piece(shape: Shape, chunk: Chunk) -> Piece:
    return convert(shape, rows_of(chunk.text, chunk.line), chunk.next)
