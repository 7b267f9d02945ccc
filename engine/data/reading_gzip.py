"""gzip files: one member, unpacked piece by piece, and given up when it grows beyond reason."""

from __future__ import annotations

import zlib
from typing import IO

from engine.specs.limits import max_file_bytes
from engine.specs.problem import ProblemError, problem

CHUNK_BYTES = 1 << 20
MAX_RATIO = 100
ALWAYS_ALLOWED_BYTES = 16 * 2**20
"""Below this, no ratio is a danger."""


def unpack(handle: IO[bytes], target: IO[bytes]) -> None:
    """Write the unpacked bytes to `target` and go back to its start.

    Raises:
        ProblemError: it is broken, grows too large, or holds several members.
    """
    stream = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    limit = max_file_bytes()
    packed = unpacked = 0
    while not stream.eof and (chunk := handle.read(CHUNK_BYTES)):
        packed += len(chunk)
        while chunk and not stream.eof:
            try:
                piece = stream.decompress(chunk, CHUNK_BYTES)
            except zlib.error as error:
                raise ProblemError([problem("file_gzip_broken", detail=str(error)[:200])]) from error
            unpacked += len(piece)
            if unpacked > limit or unpacked > max(ALWAYS_ALLOWED_BYTES, MAX_RATIO * packed):
                raise ProblemError([problem("file_gzip_grows", bytes=packed, limit=min(limit, MAX_RATIO * packed))])
            target.write(piece)
            chunk = stream.unconsumed_tail
    if not stream.eof:
        raise ProblemError([problem("file_gzip_broken", detail="unexpected end")])
    if stream.unused_data.strip(b"\0") or handle.read(CHUNK_BYTES).strip(b"\0"):
        raise ProblemError([problem("file_gzip_members")])
    if not unpacked:
        raise ProblemError([problem("file_empty")])
    target.seek(0)
