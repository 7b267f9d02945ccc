"""The stored versions that another is made from: their rows, as often as an operation needs them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pyarrow

from engine.data.rows import Row, iterate_rows
from engine.data.stored import about, unreadable
from engine.specs.problem import ProblemError, problem

PROGRESS_ROWS = 2000


class Sources:
    """Versions of one kind of rows, in the order in which they were named."""

    def __init__(self, paths: Sequence[Path], progress: Callable[[int], None] = lambda _: None) -> None:
        kinds, self.sizes = zip(*map(about, paths), strict=True)
        for other in kinds:
            if other != kinds[0]:
                raise ProblemError([problem("data_kinds_differ", field="sources", first=kinds[0], other=other)])
        self.paths = tuple(paths)
        self.row_kind: str = kinds[0]
        self._progress = progress
        self._num_read = 0

    def __len__(self) -> int:
        return len(self.paths)

    def only(self) -> int:
        """The place of the only source.

        Raises:
            ProblemError: there are several.
        """
        if len(self) > 1:
            raise ProblemError([problem("data_one_source", field="sources", given=len(self))])
        return 0

    def rows(self, place: int) -> Iterator[Row]:
        """All rows of a source, in order."""
        try:
            for row in iterate_rows(self.paths[place]):
                self._num_read += 1
                if self._num_read % PROGRESS_ROWS == 0:
                    self._progress(self._num_read)
                yield row
        except (OSError, pyarrow.ArrowException) as error:
            raise unreadable(error) from error
