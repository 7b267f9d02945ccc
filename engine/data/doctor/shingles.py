"""Texts as sets of hashed pieces of five characters, many texts at a time, without the frame that many texts have."""

from __future__ import annotations

from collections.abc import Sequence

import numpy
from numpy.typing import NDArray

PIECE = 5
"""Characters of a piece: short enough for a changed letter to cost few pieces, long enough to tell texts apart."""
WINDOW = 16
"""Characters of a stretch that is part of a frame if many texts have it."""
Hashes = NDArray[numpy.uint64]
Offsets = NDArray[numpy.uint64]
NO_FRAME: Hashes = numpy.zeros(0, numpy.uint64)
_FACTOR = 0x9E3779B97F4A7C15
_SHIFT = numpy.uint64(29)


def normal(text: str) -> str:
    """The text as it is compared: small letters, one space between words."""
    return " ".join(text.lower().split())


def pieces(texts: Sequence[str], frame: Hashes = NO_FRAME) -> tuple[Hashes, Offsets]:
    """The pieces of all texts one after the other, and where each text's begin and the last one's end.

    What belongs to the frame is left out; a text that is nothing but frame is a copy like many others, and stays whole.
    """
    codes, ends = _codes(texts)
    within = _within(len(codes), ends, PIECE)
    if len(frame):
        own = within & ~_framed(codes, ends, frame)
        within = numpy.where(_any_own(own, ends), own, within)
    rolled = _rolled(codes, PIECE)
    return rolled[within[: len(rolled)]], _offsets(within, ends)


def frame_of(texts: Sequence[str], least_texts: float) -> Hashes:
    """The stretches that at least so many of the texts have, sorted: an instruction, a heading, a signature."""
    codes, ends = _codes(texts)
    within = _within(len(codes), ends, WINDOW)
    rolled = _rolled(codes, WINDOW)
    hashes, offsets = rolled[within[: len(rolled)]], _offsets(within, ends)
    owners = numpy.repeat(numpy.arange(len(texts)), numpy.diff(offsets).astype(numpy.int64))
    order = numpy.lexsort((owners, hashes))
    hashes, owners = hashes[order], owners[order]
    fresh = numpy.ones(len(hashes), bool)
    fresh[1:] = (hashes[1:] != hashes[:-1]) | (owners[1:] != owners[:-1])
    found, counts = numpy.unique(hashes[fresh], return_counts=True)
    return found[counts >= least_texts]


def jaccard(first: Hashes, second: Hashes) -> float:
    """Common pieces by all pieces of two sets, both sorted."""
    common = len(numpy.intersect1d(first, second, assume_unique=True))
    return common / (len(first) + len(second) - common)


def _codes(texts: Sequence[str]) -> tuple[NDArray[numpy.uint64], NDArray[numpy.int64]]:
    ends = numpy.cumsum(numpy.array([len(text) for text in texts], numpy.int64))
    codes = numpy.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), numpy.uint32)
    return codes.astype(numpy.uint64), ends


def _rolled(codes: NDArray[numpy.uint64], size: int) -> Hashes:
    """A hash of the characters from each place on."""
    rolled = numpy.zeros(max(0, len(codes) - size + 1), numpy.uint64)
    for place in range(size):
        rolled = rolled * numpy.uint64(_FACTOR) + codes[place : place + len(rolled)]
    rolled ^= rolled >> _SHIFT
    rolled *= numpy.uint64(_FACTOR)
    rolled ^= rolled >> _SHIFT
    return rolled


def _within(length: int, ends: NDArray[numpy.int64], size: int) -> NDArray[numpy.bool_]:
    """The places from which on a text has so many characters."""
    starts = numpy.concatenate(([0], ends[:-1]))
    cut = numpy.maximum(ends - size + 1, starts)
    change = numpy.zeros(length + 1, numpy.int64)
    numpy.add.at(change, starts, 1)
    numpy.add.at(change, cut, -1)
    within: NDArray[numpy.bool_] = numpy.cumsum(change)[:-1] > 0
    return within


def _framed(codes: NDArray[numpy.uint64], ends: NDArray[numpy.int64], frame: Hashes) -> NDArray[numpy.bool_]:
    """The places whose piece lies within a frame."""
    rolled = _rolled(codes, WINDOW)
    hit = _within(len(codes), ends, WINDOW)[: len(rolled)]
    hit &= frame[numpy.minimum(numpy.searchsorted(frame, rolled), len(frame) - 1)] == rolled
    change = numpy.zeros(len(codes) + 1, numpy.int64)
    change[: len(hit)] += hit
    change[WINDOW - PIECE + 1 : WINDOW - PIECE + 1 + len(hit)] -= hit
    framed: NDArray[numpy.bool_] = numpy.cumsum(change)[:-1] > 0
    return framed


def _any_own(own: NDArray[numpy.bool_], ends: NDArray[numpy.int64]) -> NDArray[numpy.bool_]:
    """For each place, whether its text has any of these places."""
    counts = numpy.diff(_offsets(own, ends).astype(numpy.int64))
    any_own: NDArray[numpy.bool_] = numpy.repeat(counts > 0, numpy.diff(ends, prepend=0))
    return any_own


def _offsets(chosen: NDArray[numpy.bool_], ends: NDArray[numpy.int64]) -> Offsets:
    """Where each text's chosen places begin among all chosen ones."""
    counted = numpy.concatenate(([0], numpy.cumsum(chosen)))
    return numpy.concatenate(([0], counted[ends])).astype(numpy.uint64)
