"""Sketches of texts: which pairs may be alike, found without comparing each with each, and then compared for sure.

MinHash with bands: A. Broder 1997; J. Leskovec, A. Rajaraman, J. Ullman, Mining of Massive Datasets, chapter 3.
"""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy
from numpy.typing import NDArray

from engine.data.doctor.reading import hash64
from engine.data.doctor.shingles import NO_FRAME, Hashes, frame_of, jaccard, normal, pieces

BANDS = 12
LEAST_FOUND = 0.97
"""Share of the pairs just at the threshold that share a band; of pairs beyond it more do."""
LONGEST_BAND = 8
SEED = 42
BATCH_ROWS, BATCH_CHARACTERS = 2000, 1_000_000
LEAST_PIECES = 20
"""Texts with fewer pieces are not judged: in a few words one letter is a large share."""
FRAME_SHARE, FRAME_ROWS = 0.1, 20
"""Stretches that one in ten of the first texts has are an instruction or a frame around the text: not compared."""
NEIGHBOURS = 3
_PRIME = numpy.uint64(0x100000001B3)
_HALF = numpy.uint64(32)
Places = NDArray[numpy.int64]


def band_length(threshold: float) -> int:
    """The longest bands by which pairs at the threshold are still found."""
    lengths = (n for n in range(LONGEST_BAND, 0, -1) if 1 - (1 - threshold**n) ** BANDS >= LEAST_FOUND)
    return next(lengths, 1)


class Sketches:
    """Texts are kept in a file, 66 bytes of each in memory."""

    def __init__(self, threshold: float, scratch: Path) -> None:
        self.threshold = threshold
        self._band_length = band_length(threshold)
        self._file = tempfile.TemporaryFile(dir=scratch)  # noqa: SIM115  open as long as the sketches are
        self._ends = array("Q", [0])
        self._equals = array("Q")
        self._bands: list[NDArray[numpy.uint32]] = []
        self._judged: list[NDArray[numpy.bool_]] = []
        self._frame: Hashes | None = None
        self._waiting: list[str] = []
        self._num_waiting = 0

    def add(self, text: str, equal: str = "") -> None:
        """Take in the next text. Texts are alike only where `equal` is the same for both."""
        text = normal(text)
        written = self._file.write(text.encode("utf-8", "surrogatepass"))
        self._ends.append(self._ends[-1] + written)
        self._equals.append(hash64(normal(equal)))
        self._waiting.append(text)
        self._num_waiting += len(text)
        if len(self._waiting) == BATCH_ROWS or self._num_waiting > BATCH_CHARACTERS:
            self._sketch()

    def judged(self) -> NDArray[numpy.bool_]:
        """Which texts are long enough to be compared."""
        self._sketch()
        return numpy.concatenate([numpy.zeros(0, bool), *self._judged])

    def candidates(self, places: Places, apart: NDArray[numpy.bool_]) -> tuple[Places, Places]:
        """Pairs of these texts that may be alike: within each part, and across (of the first part, of the second).

        Both as rows of two places; `apart` says of every text whether it is of the second part.
        """
        self._sketch()
        if len(places) < 2:
            return numpy.zeros((0, 2), numpy.int64), numpy.zeros((0, 2), numpy.int64)
        equals = numpy.frombuffer(self._equals, numpy.uint64)
        count = len(equals)
        bands = numpy.concatenate(self._bands)[places]
        within = across = numpy.zeros(0, numpy.int64)
        for band in bands.T:
            sorting = numpy.lexsort((places, apart[places], band))
            order, keys = places[sorting], band[sorting]
            for found in _within(order, keys, apart):
                within = numpy.union1d(within, found[1] * count + found[0])
            for found in _across(order, keys, apart):
                across = numpy.union1d(across, found[0] * count + found[1])
        pairs = (
            numpy.stack((within % count, within // count), axis=1),
            numpy.stack((across // count, across % count), axis=1),
        )
        one, other = (found[equals[found[:, 0]] == equals[found[:, 1]]] for found in pairs)
        return one, other

    def alike(self, pairs: Places) -> Iterator[tuple[int, int]]:
        """The pairs that are as alike as the threshold, or more."""
        sets = lru_cache(maxsize=256)(self._sets)
        for first, second in pairs.tolist():
            if self._are_alike(sets(first), sets(second)):
                yield first, second

    def groups(self, pairs: Places) -> dict[int, int]:
        """Each text that is alike to an earlier one which is in no group itself → that one, the first of its group.

        `pairs` are in order of the later text; the first of a group is compared with each of it.
        """
        sets = lru_cache(maxsize=256)(self._sets)
        first_of: dict[int, int] = {}
        compared: set[int] = set()
        current = -1
        for earlier, later in pairs.tolist():
            if later != current:
                current, compared = later, set()
            first = first_of.get(earlier, earlier)
            if later in first_of or first in compared:
                continue
            compared.add(first)
            if self._are_alike(sets(first), sets(later)):
                first_of[later] = first
        return first_of

    def _sketch(self) -> None:
        if not self._waiting:
            return
        from rensa import RMinHash

        if self._frame is None:
            few = len(self._waiting) < FRAME_ROWS
            self._frame = NO_FRAME if few else frame_of(self._waiting, FRAME_SHARE * len(self._waiting))
        hashes, offsets = pieces(self._waiting, self._frame)
        width = BANDS * self._band_length
        matrix = RMinHash.digest_matrix_from_flat_token_hashes(hashes, offsets, width, SEED)
        digests = numpy.array(matrix.to_rows(), numpy.uint32).reshape(-1, BANDS, self._band_length)
        folded = numpy.zeros(digests.shape[:2], numpy.uint64)
        for place in range(self._band_length):
            folded = (folded ^ digests[:, :, place]) * _PRIME
            folded ^= folded >> _HALF
        self._bands.append((folded & numpy.uint64(0xFFFFFFFF)).astype(numpy.uint32))
        self._judged.append(numpy.diff(offsets) >= LEAST_PIECES)
        self._waiting, self._num_waiting = [], 0

    def _sets(self, place: int) -> tuple[Hashes, Hashes]:
        """The pieces of a text, without its frame and with it."""
        self._file.seek(self._ends[place])
        text = self._file.read(self._ends[place + 1] - self._ends[place]).decode("utf-8", "surrogatepass")
        assert self._frame is not None
        return numpy.unique(pieces([text], self._frame)[0]), numpy.unique(pieces([text])[0])

    def _are_alike(self, first: tuple[Hashes, Hashes], second: tuple[Hashes, Hashes]) -> bool:
        """Whether two texts are alike, and are so without their frame as well."""
        return all(jaccard(one, other) >= self.threshold for one, other in zip(first, second, strict=True))


def _within(order: Places, keys: NDArray[numpy.uint32], apart: NDArray[numpy.bool_]) -> Iterator[tuple[Places, Places]]:
    """Texts of one bucket and part: each with its neighbours before it and with the first."""
    parts = apart[order]
    starts = numpy.ones(len(order), bool)
    starts[1:] = (keys[1:] != keys[:-1]) | (parts[1:] != parts[:-1])
    first = numpy.maximum.accumulate(numpy.where(starts, numpy.arange(len(order)), 0))
    yield order[first[~starts]], order[~starts]
    for lag in range(1, NEIGHBOURS + 1):
        same = first[lag:] == first[:-lag]
        yield order[:-lag][same], order[lag:][same]


def _across(order: Places, keys: NDArray[numpy.uint32], apart: NDArray[numpy.bool_]) -> Iterator[tuple[Places, Places]]:
    """Texts of one bucket and different parts: each of the first part with the first few of the second, and back."""
    parts = apart[order]
    ones, others = numpy.flatnonzero(~parts), numpy.flatnonzero(parts)
    if not len(ones) or not len(others):
        return
    for lag in range(NEIGHBOURS):
        for mine, theirs, back in ((ones, others, False), (others, ones, True)):
            at = numpy.searchsorted(keys[theirs], keys[mine]) + lag
            there = at < len(theirs)
            there[there] = keys[theirs[at[there]]] == keys[mine[there]]
            pair = (order[mine[there]], order[theirs[at[there]]])
            yield (pair[1], pair[0]) if back else pair
