"""The one door to rows: a file of any container, or a folder of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.data.containers import open_file
from engine.data.folders import read_folder
from engine.data.source import RowOrProblem, Source

__all__ = ["RowOrProblem", "Source", "open_rows"]


@contextmanager
def open_rows(path: Path, *, source_name: str | None = None) -> Iterator[Source]:
    """Open a file or folder of rows; `source_name` is its name as people know it.

    Raises:
        ProblemError: it cannot be read as a whole; also while its rows are read.
    """
    if path.is_dir() and not path.is_symlink():
        yield read_folder(path)
        return
    with open_file(path, source_name=source_name) as source:
        yield source
