"""From a file to canonical rows: recognise the shape, convert row by row, count what is wrong, store what is right."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from engine.data.files import RowOrProblem, Source, open_rows
from engine.data.folders import copy_folder
from engine.data.rows import Row, RowWriter
from engine.data.shape import shape_of
from engine.data.statistics import Statistics
from engine.files import publish
from engine.formats.messages_of import BadRow
from engine.specs.problem import Problem, ProblemError, problem

SAMPLE_ROWS = 200
KEPT_PROBLEMS = 50
SHOWN_ROWS = 5
PROGRESS_ROWS = 2000


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a person decided about an import; what is left open is recognised."""

    format: str | None = None
    mapping: Mapping[str, str] = field(default_factory=dict)
    """Role → column; an empty column takes the role away."""
    options: Mapping[str, str] = field(default_factory=dict)
    source_name: str | None = None
    policy: str = "keep_usable"


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a file holds. `problems` are the first ones; `problem_count` counts the rows that have any.

    `rows` are the file's; `usable_rows` are what they became, several of one that holds several answers.
    """

    container: str
    format: str
    row_kind: str
    mapping: dict[str, str]
    options: dict[str, str]
    confidence: float
    reasons: list[Problem]
    others: dict[str, float]
    columns: list[str]
    rows: int
    usable_rows: int
    problems: list[Problem]
    problem_count: int
    warnings: list[Problem]
    statistics: dict[str, Any]
    sample: list[Row]

    def as_dict(self) -> dict[str, Any]:
        """The JSON form, with codes in place of sentences."""
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__}
        plain["problems"] = [item.as_dict() for item in self.problems]
        plain["reasons"] = [item.as_dict() for item in self.reasons]
        plain["warnings"] = [item.as_dict() for item in self.warnings]
        return plain


@dataclass(frozen=True, slots=True)
class Stored:
    """A version on disk: `path` is its Parquet file, in a folder named by the hash of the rows."""

    inspection: Inspection
    sha256: str
    path: Path
    bytes: int


def inspect(path: Path, wishes: Wishes = Wishes(), *, progress: Callable[[int], None] | None = None) -> Inspection:
    """Read a whole file and store nothing.

    Raises:
        ProblemError: the file cannot be read, or its rows have no known shape.
    """
    with open_rows(path, source_name=wishes.source_name) as source:
        return _Reading(source, wishes).read(lambda _: None, progress)


def store_rows(
    path: Path, datasets: Path, wishes: Wishes = Wishes(), *, progress: Callable[[int], None] | None = None
) -> Stored:
    """Read a file and store its usable rows; equal rows are stored once.

    Raises:
        ProblemError: nothing is stored: no usable row, or rows with problems where the wish is to refuse them.
    """
    with tempfile.TemporaryDirectory(prefix=".incoming-", dir=datasets) as folder:
        incoming = Path(folder) / "version"
        incoming.mkdir(mode=0o700)
        with open_rows(path, source_name=wishes.source_name) as source:
            reading = _Reading(source, wishes)
            with RowWriter(incoming / "rows.parquet", reading.shape.row_kind) as writer:
                inspection = reading.read(writer.add, progress)
        _judge(inspection, wishes.policy)
        final = _publish(path, incoming, datasets / writer.sha256, inspection.container)
    return Stored(inspection, writer.sha256, final, final.stat().st_size)


class _Reading:
    """One pass over the rows of an opened file."""

    def __init__(self, source: Source, wishes: Wishes) -> None:
        self._source = source
        self._first = list(_take(source.rows, SAMPLE_ROWS))
        sample = [(line, raw) for line, raw in self._first if not isinstance(raw, Problem)]
        if not sample:
            found = [raw for _, raw in self._first if isinstance(raw, Problem)]
            raise ProblemError([problem("data_no_rows"), *found[:KEPT_PROBLEMS]])
        self.shape = shape_of(sample, wishes.format, wishes.mapping, wishes.options)
        self._statistics = Statistics()
        self._problems: list[Problem] = []
        self._num_rows = self._num_bad = self._num_usable = 0
        self._shown: list[Row] = []
        self._other_splits: set[str] = set()

    def read(self, keep: Callable[[Row], None], progress: Callable[[int], None] | None) -> Inspection:
        for line, raw in chain(self._first, self._source.rows):
            self._num_rows += 1
            self._one(line, raw, keep)
            if progress is not None and self._num_rows % PROGRESS_ROWS == 0:
                progress(self._num_rows)
        return self._inspection()

    def _one(self, line: int, raw: RowOrProblem, keep: Callable[[Row], None]) -> None:
        if isinstance(raw, Problem):
            self._refuse([raw])
            return
        try:
            converted = self.shape.convert(raw, line)
        except BadRow as error:
            self._refuse(error.problems)
            return
        if converted[0]["split"] is None:
            self._note_split(raw)
        for row in converted:
            self._num_usable += 1
            self._statistics.add(row)
            if len(self._shown) < SHOWN_ROWS:
                self._shown.append(row)
            keep(row)

    def _refuse(self, found: Sequence[Problem]) -> None:
        self._num_bad += 1
        self._problems += found[: KEPT_PROBLEMS - len(self._problems)]

    def _note_split(self, raw: Mapping[str, Any]) -> None:
        word = self.shape.columns.cell(raw, "split")
        if word is not None and len(self._other_splits) < 5:
            self._other_splits.add(str(word)[:40])

    def _inspection(self) -> Inspection:
        warnings = [*self._source.warnings, *self.shape.warnings(), *self._statistics.warnings()]
        if self._other_splits:
            warnings.append(problem("unknown_split", words=", ".join(sorted(self._other_splits))))
        return Inspection(
            container=self._source.container,
            format=self.shape.kind,
            row_kind=self.shape.row_kind,
            mapping=dict(self.shape.columns.mapping),
            columns=self.shape.names,
            confidence=self.shape.recognised.confidence,
            reasons=list(self.shape.recognised.reasons),
            others=self.shape.others,
            options=dict(self.shape.columns.options),
            rows=self._num_rows,
            usable_rows=self._num_usable,
            problems=self._problems,
            problem_count=self._num_bad,
            warnings=warnings,
            statistics={"place": self._source.place, "container": self._source.container, **self._statistics.as_dict()},
            sample=self._shown,
        )


def _take(rows: Iterator[tuple[int, RowOrProblem]], count: int) -> Iterator[tuple[int, RowOrProblem]]:
    """Rows until `count` of them are readable, but never more than ten times as many."""
    good = 0
    for seen, (line, raw) in enumerate(rows, 1):
        yield line, raw
        good += not isinstance(raw, Problem)
        if good == count or seen == 10 * count:
            return


def _judge(inspection: Inspection, policy: str) -> None:
    if inspection.usable_rows == 0:
        raise ProblemError([problem("data_no_usable_rows", rows=inspection.rows), *inspection.problems])
    if policy == "refuse" and inspection.problem_count:
        said = problem("data_has_problems", count=inspection.problem_count, rows=inspection.rows)
        raise ProblemError([said, *inspection.problems])


def _publish(source: Path, incoming: Path, final: Path, container: str) -> Path:
    """Move a version into place, with the file that it came from beside it."""
    rows = final / "rows.parquet"
    if rows.exists():
        return rows
    original = incoming / f"source.{container}"
    if source.is_dir():
        copy_folder(source, original)
    else:
        shutil.copyfile(source, original)
        original.chmod(0o400)
    try:
        publish(incoming, final)
    except OSError:
        if not rows.exists():  # else: another import of the same rows was quicker
            raise
    return rows
