"""How many tokens the rows of a version have, and what of them a longest row would cut: counted once for a tokenizer.

What is kept are the lengths before anything is cut, so that each further question about them is answered at once.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pyarrow

from engine.data.render import Renderer
from engine.data.room import UNBOUNDED, Room
from engine.data.rows import Row, kind_of
from engine.data.sample import num_rows, sample
from engine.data.statistics import bars, spread
from engine.data.stored import unreadable
from engine.data.tokens import TOKENS_VERSION, sequences_of
from engine.specs.problem import ProblemError

MOST_ROWS = 5000
"""Of more rows a sample is counted: a row takes about a millisecond."""
KEPT_FILES = 64
TEXT = "text"
PROMPT_IS_CUT = ("preference", "unpaired")
"""The kinds of rows that lose tokens of their prompt first where the start is cut."""

Numbers = Any
"""A one-dimensional numpy array of whole numbers."""


@dataclass(frozen=True, slots=True)
class Lengths:
    """Of each sequence its row and its tokens; of each trained answer its sequence, first token and end."""

    rows: Numbers
    tokens: Numbers
    sequences: Numbers
    starts: Numbers
    ends: Numbers
    whole: int
    """Rows of the version."""
    counted: int
    """Rows that were looked at."""
    refused: int
    """Rows of these that the template refused."""
    row_kind: str

    def as_dict(self) -> dict[str, Any]:
        """The figures: of rows, and of prompts and answers where the rows have answers."""
        figures: dict[str, Numbers] = {"row_tokens": self.tokens}
        if len(self.ends):
            figures |= {"prompt_tokens": self._prompts(), "answer_tokens": self.ends - self.starts}
        known = {"rows": self.whole, "counted": self.counted, "refused": self.refused, "answers": len(self.ends)}
        return {**known, "total_tokens": int(self.tokens.sum()), **{name: _figure(of) for name, of in figures.items()}}

    def cut(self, room: Room) -> dict[str, Any]:
        """What a longest row does: `affected` of `among` answers, or rows where these are left out or split as a whole.

        `longer` are the rows beyond it, `longest` the tokens of the longest one.
        """
        policy = room.or_else("split" if self.row_kind == TEXT else "cut_end").truncation
        longer = len(np.unique(self.rows[self.tokens > room.max_length]))
        told = {"truncation": policy, "max_length": room.max_length, "longer": longer}
        told["longest"] = int(self.tokens.max(initial=0))
        count = CUTS.get(policy)
        if count is None or not len(self.ends):
            return {**told, "of": "rows", "affected": longer, "among": self.counted - self.refused}
        return {**told, "of": "answers", "affected": count(self, room.max_length), "among": len(self.ends)}

    def _prompts(self) -> Numbers:
        """The tokens of each row that are no answer; of a pair they are the same on both sides."""
        answers = np.bincount(self.sequences, self.ends - self.starts, len(self.tokens)).astype(np.int64)
        _, last = np.unique(self.rows[::-1], return_index=True)
        return (self.tokens - answers)[::-1][last]


def _cut_at_the_end(found: Lengths, max_length: int) -> int:
    return int((found.ends > max_length).sum())


def _cut_at_the_start(found: Lengths, max_length: int) -> int:
    """An answer to a prompt loses as much of that as it must, but for one token."""
    if found.row_kind in PROMPT_IS_CUT:
        return int((found.ends - found.starts > max_length - 1).sum())
    return int((found.starts < found.tokens[found.sequences] - max_length).sum())


CUTS: dict[str, Callable[[Lengths, int], int]] = {"cut_end": _cut_at_the_end, "cut_start": _cut_at_the_start}
"""The ways to cut that take something away from answers → from how many."""


def measure(
    version_path: Path, renderer: Renderer, objective: Any, cache_folder: Path, *, seen: Callable[[], None]
) -> Lengths:
    """Count the rows of a version, or find the lengths counted before; `seen` is called before each row.

    Without an objective, for rows that none takes yet: the prompt with its answer.

    Raises:
        ProblemError: the rows are of another kind than the objective takes, or cannot be read.
    """
    path = cache_folder / f"lengths-{_key(version_path, renderer, objective)}.npz"
    known = _read(path)
    if known is None:
        try:
            known = _count(sample(version_path, MOST_ROWS), num_rows(version_path), renderer, objective, seen)
        except (OSError, pyarrow.ArrowException) as error:
            raise unreadable(error) from error
        _write(path, known)
        _forget_oldest(cache_folder)
    return known


def _key(version_path: Path, renderer: Renderer, objective: Any) -> str:
    parts = {
        "version": [TOKENS_VERSION, MOST_ROWS],
        "rows": version_path.parent.name,
        "tokenizer": renderer.sha256,
        "objective": objective and objective.model_dump(mode="json"),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def _count(rows: Iterable[Row], whole: int, renderer: Renderer, objective: Any, seen: Callable[[], None]) -> Lengths:
    of_row: list[int] = []
    tokens: list[int] = []
    of_sequence: list[int] = []
    starts: list[int] = []
    ends: list[int] = []
    counted = refused = 0
    row_kind = ""
    for number, row in enumerate(rows):
        seen()
        counted += 1
        row_kind = kind_of(row)
        try:
            made = sequences_of(row, renderer, objective, Room(UNBOUNDED))
        except ProblemError as error:
            if error.problems[0].code == "data_rows_do_not_fit":
                raise
            refused += 1
            continue
        for length, answers in (span for each in made for span in each.source.spans()):
            of_sequence += [len(tokens)] * len(answers)
            starts += [start for start, _ in answers]
            ends += [end for _, end in answers]
            of_row.append(number)
            tokens.append(length)
    arrays = {"rows": of_row, "tokens": tokens, "sequences": of_sequence, "starts": starts, "ends": ends}
    found: dict[str, Numbers] = {name: np.array(column, np.int64) for name, column in arrays.items()}
    return Lengths(**found, whole=whole, counted=counted, refused=refused, row_kind=row_kind)


def _figure(values: Numbers) -> dict[str, Any]:
    whole = array("I", values.tolist())
    return {**spread(whole), "bars": bars(whole)}


def _read(path: Path) -> Lengths | None:
    """What was counted before; what is not whole is counted anew."""
    try:
        with np.load(path, allow_pickle=False) as saved:
            found = {field.name: saved[field.name] for field in fields(Lengths)}
            return Lengths(**{name: one if one.ndim else one.item() for name, one in found.items()})
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None


def _write(path: Path, found: Lengths) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".making-", dir=path.parent) as making:
        half = Path(making) / path.name
        with half.open("wb") as handle:
            np.savez(handle, **{field.name: getattr(found, field.name) for field in fields(found)})
        half.rename(path)


def _forget_oldest(cache_folder: Path) -> None:
    made = sorted(cache_folder.glob("lengths-*.npz"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in made[KEPT_FILES:]:
        path.unlink(missing_ok=True)
