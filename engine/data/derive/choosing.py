"""Which rows come first when not all can be taken: decided by hashes, so that it stays when rows are added."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy
from numpy.typing import NDArray

from engine.data.rows import TEST, Row, fingerprint

Places = NDArray[numpy.int64]


@dataclass(frozen=True, slots=True)
class Scan:
    """Of each row a hash with the seed in it, its stratum by number, and whether it is held out."""

    hashes: NDArray[numpy.uint64]
    strata: NDArray[numpy.int64]
    held_out: NDArray[numpy.bool_]


def scan(
    rows: Iterable[Row],
    seed: int,
    *,
    unit: Callable[[Row], bytes] = fingerprint,
    stratum: Callable[[Row], str] = lambda _: "",
) -> Scan:
    """Look at all rows once; rows of one unit get one hash."""
    hashes, strata, held_out = array("Q"), array("q"), bytearray()
    numbers: dict[str, int] = {}
    salt = seed.to_bytes(8, "big")
    for row in rows:
        hashes.append(int.from_bytes(hashlib.blake2b(salt + unit(row), digest_size=8).digest(), "big"))
        strata.append(numbers.setdefault(stratum(row), len(numbers)))
        held_out.append(row["split"] == TEST)
    return Scan(
        numpy.frombuffer(hashes, numpy.uint64),
        numpy.frombuffer(strata, numpy.int64),
        numpy.frombuffer(held_out, numpy.uint8).astype(bool),
    )


def in_order(hashes: NDArray[numpy.uint64], strata: NDArray[numpy.int64]) -> Places:
    """Places by their hash, so that of each stratum the same share has come wherever one stops.

    Fewer of them are always the first of more.
    """
    by_stratum = numpy.lexsort((hashes, strata))
    counts = numpy.bincount(strata)
    starts = numpy.cumsum(counts) - counts
    ordered = strata[by_stratum]
    rank = numpy.arange(len(hashes)) - starts[ordered]
    share = numpy.empty(len(hashes))
    share[by_stratum] = (rank + 0.5) / counts[ordered]
    order: Places = numpy.lexsort((hashes, share)) if len(counts) > 1 else numpy.argsort(hashes, kind="stable")
    return order
