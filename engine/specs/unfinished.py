"""What an import that has not ended keeps on the disk, told by names: the rows it has read, and the file it reads."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from pathlib import Path

from engine.specs.home import Home

_READ = re.compile(r"\.(?:half\.)?incoming-(\d+)-\d+")


def abandoned_rows(home: Home, open_jobs: Collection[int]) -> Iterator[Path]:
    """The folders of rows that imports had read which are none of the `open_jobs`: nobody goes on there."""
    for path, job_id in _rows(home):
        if job_id not in open_jobs:
            yield path


def kept_rows(home: Home, open_jobs: Collection[int]) -> Iterator[Path]:
    """The folders of rows in which one of the `open_jobs` goes on."""
    for path, job_id in _rows(home):
        if job_id in open_jobs:
            yield path


def _rows(home: Home) -> Iterator[tuple[Path, int]]:
    for pattern in (".incoming-*", ".half.incoming-*"):
        for path in home.datasets.glob(pattern):
            if found := _READ.fullmatch(path.name):
                yield path, int(found[1])
