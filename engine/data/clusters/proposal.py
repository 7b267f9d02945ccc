"""A proposal of clusters for a stored version: found in a sample, then told for every row in a second pass."""

from __future__ import annotations

import hashlib
import heapq
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy
import pyarrow
import pyarrow.parquet as pq

from engine.data.clusters.grouping import NONE, Grouping, Labels, fit
from engine.data.clusters.terms import asked_of
from engine.data.doctor.reading import hash64, iterate_seen
from engine.files import sync_file
from engine.specs.problem import ProblemError, problem

SAMPLE_ROWS = 10_000
BATCH_ROWS = 1000
PROGRESS_ROWS = 2000
EXAMPLES = 4
LABELS = pyarrow.schema([("cluster", pyarrow.int16())])


@dataclass(frozen=True, slots=True)
class Cluster:
    """The terms that tell it, how many rows it has, and the numbers of some."""

    words: list[str]
    count: int
    rows: list[int]

    def as_dict(self) -> dict[str, Any]:
        return {"words": self.words, "count": self.count, "rows": self.rows}


@dataclass(frozen=True, slots=True)
class Proposal:
    """The clusters, how many prompts they were found in, and how many rows are in none."""

    clusters: list[Cluster]
    looked_at: int
    without: int


def key_of(num_clusters: int, seed: int) -> str:
    """The name of a proposal with these settings: the same ones propose the same."""
    return hashlib.sha256(f"1 {num_clusters} {seed}".encode()).hexdigest()[:16]


def labels_path(version_path: Path, key: str) -> Path:
    """Where the cluster of each row is kept, beside the version's rows."""
    return version_path.parent / f"clusters-{key}.parquet"


def propose(path: Path, *, num_clusters: int, seed: int, progress: Callable[[int], None] = lambda _: None) -> Proposal:
    """Find clusters, and keep the one of each row; `progress` is told how many rows of both passes were seen.

    Raises:
        ProblemError: the prompts have no word in common.
    """
    numbers, texts, num_rows = _sample(path, seed, progress)
    grouping, found, words = fit(texts, num_clusters, seed)
    if not words:
        raise ProblemError([problem("data_nothing_alike", field="data")])
    counts = numpy.zeros(len(words) + 1, numpy.int64)
    with _Kept(labels_path(path, key_of(num_clusters, seed))) as kept:
        for labels in _labels(path, grouping, lambda seen: progress(num_rows + seen)):
            kept.add(labels)
            counts += numpy.bincount(labels - NONE, minlength=len(counts))
    without, *sizes = counts.tolist()
    examples = [[numbers[place] for place in numpy.flatnonzero(found == label)] for label in range(len(words))]
    clusters = [Cluster(told, count, rows[:EXAMPLES]) for told, count, rows in zip(words, sizes, examples, strict=True)]
    return Proposal(clusters, len(texts), without)


def read_labels(path: Path) -> Labels:
    """The cluster of each row.

    Raises:
        OSError, ArrowException: the file is gone or damaged.
    """
    labels: Labels = pq.read_table(path, schema=LABELS)["cluster"].to_numpy()
    return labels


def _sample(path: Path, seed: int, progress: Callable[[int], None]) -> tuple[list[int], list[str], int]:
    """Numbers and texts of the rows whose prompts have the smallest hashes, one of equal prompts; and all rows' number.

    Which prompts these are does not depend on the order of the rows.
    """
    largest: list[tuple[int, int, str]] = []
    known: set[int] = set()
    num_rows = 0
    for row in iterate_seen(path):
        num_rows += 1
        if num_rows % PROGRESS_ROWS == 0:
            progress(num_rows)
        mark = hash64(f"{seed} {row.asked}")
        if mark in known or (len(largest) == SAMPLE_ROWS and mark > -largest[0][0]):
            continue
        known.add(mark)
        heapq.heappush(largest, (-mark, row.number, asked_of(row)))
        if len(largest) > SAMPLE_ROWS:
            known.remove(-heapq.heappop(largest)[0])
    ordered = sorted(largest, reverse=True)
    return [number for _, number, _ in ordered], [text for _, _, text in ordered], num_rows


def _labels(path: Path, grouping: Grouping, progress: Callable[[int], None]) -> Iterator[Labels]:
    texts = (asked_of(row) for row in iterate_seen(path))
    seen = 0
    while some := list(islice(texts, BATCH_ROWS)):
        yield grouping.label(some)
        seen += len(some)
        if seen % PROGRESS_ROWS == 0:
            progress(seen)


class _Kept:
    """Writes the labels to a file that is there whole or not at all."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._temporary = path.with_name(f".{path.name}.{os.getpid()}")
        self._writer = pq.ParquetWriter(self._temporary, LABELS, compression="zstd")

    def __enter__(self) -> _Kept:
        return self

    def add(self, labels: Labels) -> None:
        self._writer.write_table(pyarrow.Table.from_arrays([pyarrow.array(labels)], schema=LABELS))

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._writer.close()
        if kind is None:
            sync_file(self._temporary)
            self._temporary.replace(self._path)
        self._temporary.unlink(missing_ok=True)
