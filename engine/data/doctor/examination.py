"""An examination: one pass of all chosen checks over a version, and the file that keeps all row numbers it found."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy
import pyarrow
import pyarrow.parquet as pq

from engine.data.doctor import CHECKS
from engine.data.doctor.protocol import Finding, Numbers, Setup
from engine.data.doctor.reading import iterate_seen
from engine.data.stored import about
from engine.files import sync_file

PROGRESS_ROWS = 2000
FOUND = pyarrow.schema([("finding", pyarrow.string()), ("row", pyarrow.int64()), ("removable", pyarrow.bool_())])


def setup_of(path: Path, scratch: Path, *, near_threshold: float = 0.85, near_on: str = "row") -> Setup:
    """What the checks have to know of a stored version beforehand."""
    row_kind, num_rows = about(path)
    return Setup(row_kind, num_rows, scratch, near_threshold, near_on)


def examine(
    path: Path, setup: Setup, checks: Sequence[str], progress: Callable[[int], None] = lambda _: None
) -> list[Finding]:
    """What the checks find in a stored version; `progress` is told now and then how many rows were seen."""
    chosen = [CHECKS[name](setup) for name in checks]
    for row in iterate_seen(path):
        for check in chosen:
            check.see(row)
        if (row.number + 1) % PROGRESS_ROWS == 0:
            progress(row.number + 1)
    return [found for check in chosen for found in check.findings()]


def key_of(checks: Iterable[str], near_threshold: float, near_on: str) -> str:
    """The name of an examination with these settings: the same ones find the same."""
    told = f"1 {' '.join(checks)} {near_threshold} {near_on}"
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def findings_path(version_path: Path, key: str) -> Path:
    """Where the row numbers of an examination are kept, beside the version's rows."""
    return version_path.parent / f"doctor-{key}.parquet"


def write_findings(path: Path, findings: Iterable[Finding]) -> None:
    """Keep all row numbers of some findings, whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with pq.ParquetWriter(temporary, FOUND, compression="zstd") as writer:
            for found in findings:
                names = pyarrow.repeat(pyarrow.scalar(found.key), len(found.rows))
                arrays = [names, pyarrow.array(found.rows), pyarrow.array(found.removable)]
                writer.write_table(pyarrow.Table.from_arrays(arrays, schema=FOUND))
        sync_file(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def removable_rows(path: Path, keys: Iterable[str]) -> Numbers:
    """The rows of some findings that a cleaned version leaves out, in ascending order.

    Raises:
        KeyError: there is no such finding.
    """
    table = pq.read_table(path)
    names, rows = table["finding"], table["row"].to_numpy()
    removable = table["removable"].to_numpy()
    left_out = numpy.zeros(len(rows), bool)
    for key in keys:
        of_key = pyarrow.compute.equal(names, key).to_numpy()
        if not of_key.any():
            raise KeyError(key)
        left_out |= of_key
    return numpy.unique(rows[left_out & removable])
