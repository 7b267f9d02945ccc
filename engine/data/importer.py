"""From a file to canonical rows: recognise the shape, convert row by row, count what is wrong, store what is right."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any

from engine.data.chunks import pieces, processes_for
from engine.data.files import RowOrProblem, Source, open_rows
from engine.data.folders import copy_folder
from engine.data.growing import Growing
from engine.data.piece import SHOWN_PROBLEMS, Piece, Place, Tally, convert
from engine.data.rows import BATCH_ROWS, Row, files_of
from engine.data.shape import shape_of
from engine.data.stored import publish_version
from engine.specs.problem import Problem, ProblemError, problem

SAMPLE_ROWS = 200

Progress = Callable[[int, float | None], None]
"""Told the rows so far, and the share of the file where that is known."""


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
    """What a file holds. `problems` are the first ones; `problem_count` counts the rows that have any,
    `problem_kinds` all problems by code.

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
    problem_kinds: dict[str, int]
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


def inspect(path: Path, wishes: Wishes = Wishes(), *, progress: Progress | None = None) -> Inspection:
    """Read a whole file and store nothing.

    Raises:
        ProblemError: the file cannot be read, or its rows have no known shape.
    """
    with open_rows(path, source_name=wishes.source_name) as source:
        reading = _Reading(source, wishes)
        tally = Tally()
        for piece in reading.pieces(None):
            tally.add(piece.tally)
            _tell(progress, tally, piece, source)
        return reading.inspection(tally)


def store_rows(
    path: Path,
    datasets: Path,
    wishes: Wishes = Wishes(),
    *,
    progress: Progress | None = None,
    unfinished: Path | None = None,
) -> Stored:
    """Read a file and store its usable rows; equal rows are stored once.

    With `unfinished`, nobody writes to the file any more, and what was read of its lines when something else than its
    content ends this call stays in that folder: a later call goes on there.

    Raises:
        ProblemError: nothing is stored: no usable row, or rows with problems where the wish is to refuse them.
    """
    folder = unfinished or Path(tempfile.mkdtemp(prefix=".incoming-", dir=datasets))
    keep = False
    try:
        growing, inspection = _grow(path, folder, wishes, progress)
        _judge(inspection, wishes.policy)
        final = datasets / growing.finish()
        _keep_original(path, growing.version / f"source.{inspection.container}", link=unfinished is not None)
        rows = _publish(growing.version, final, problems=inspection.problem_count > 0)
        return Stored(inspection, final.name, rows, sum(one.stat().st_size for one in files_of(rows)))
    except ProblemError:
        raise
    except BaseException:
        keep = unfinished is not None and (unfinished / "state.json").exists()
        raise
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


def _grow(path: Path, folder: Path, wishes: Wishes, progress: Progress | None) -> tuple[Growing, Inspection]:
    with open_rows(path, source_name=wishes.source_name) as source:
        reading = _Reading(source, wishes)
        growing = Growing(folder, reading.shape.row_kind, _key(path, wishes))
        try:
            with contextlib.closing(reading.pieces(growing.next)) as converted:
                for piece in converted:
                    growing.add(piece)
                    _tell(progress, growing.tally, piece, source)
        except BaseException:
            growing.leave()
            raise
        return growing, reading.inspection(growing.tally)


def _key(path: Path, wishes: Wishes) -> str:
    """What the unfinished rows of a file depend on."""
    facts = path.stat()
    return repr((facts.st_size, facts.st_mtime_ns, dataclasses.astuple(wishes)))


def _tell(progress: Progress | None, tally: Tally, piece: Piece, source: Source) -> None:
    if progress is not None:
        progress(tally.rows, piece.next.offset / source.size if piece.next is not None and source.size else None)


class _Reading:
    """One pass over the rows of an opened file."""

    def __init__(self, source: Source, wishes: Wishes) -> None:
        self._source = source
        self._first = list(_take(source.rows, SAMPLE_ROWS))
        sample = [(line, raw) for line, raw in self._first if not isinstance(raw, Problem)]
        if not sample:
            found = [raw for _, raw in self._first if isinstance(raw, Problem)]
            raise ProblemError([problem("data_no_rows"), *found[:SHOWN_PROBLEMS]])
        self.shape = shape_of(sample, wishes.format, wishes.mapping, wishes.options)

    def pieces(self, begin: Place | None) -> Generator[Piece, None, None]:
        """The file's rows, converted; lines from a place on, other files always from their start."""
        if self._source.lines is None:
            rows = chain(self._first, self._source.rows)
            while some := list(islice(rows, BATCH_ROWS)):
                yield convert(self.shape, some)
            return
        handle = self._source.lines
        begin = begin or Place(self._source.start, 1)
        handle.seek(begin.offset)
        yield from pieces(handle, begin.line, self.shape, processes_for(self._source.size - begin.offset))

    def inspection(self, tally: Tally) -> Inspection:
        warnings = [*self._source.warnings, *self.shape.warnings(), *tally.statistics.warnings()]
        if tally.other_splits:
            warnings.append(problem("unknown_split", words=", ".join(sorted(tally.other_splits))))
        place = {"place": self._source.place, "container": self._source.container}
        return Inspection(
            container=self._source.container,
            format=self.shape.kind,
            row_kind=self.shape.row_kind,
            mapping=dict(self.shape.columns.mapping),
            options=dict(self.shape.columns.options),
            confidence=self.shape.recognised.confidence,
            reasons=list(self.shape.recognised.reasons),
            others=self.shape.others,
            columns=self.shape.names,
            rows=tally.rows,
            usable_rows=tally.usable,
            problems=tally.problems,
            problem_count=tally.bad,
            problem_kinds=dict(tally.kinds.most_common()),
            warnings=warnings,
            statistics={**place, **tally.statistics.as_dict()},
            sample=tally.shown,
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


def _keep_original(source: Path, original: Path, *, link: bool) -> None:
    """Put the file or folder that rows came from beside them."""
    if source.is_dir():
        copy_folder(source, original)
        return
    if not link or not _linked(source, original):
        shutil.copyfile(source, original)
    original.chmod(0o400)


def _linked(source: Path, original: Path) -> bool:
    """Give the file a second name; whether its disk can."""
    try:
        original.hardlink_to(source)
    except OSError:
        return False
    return True


def _publish(version: Path, final: Path, *, problems: bool) -> Path:
    """Move a version into place."""
    if not problems:
        (version / "problems.jsonl").unlink()
    return publish_version(version, final)
