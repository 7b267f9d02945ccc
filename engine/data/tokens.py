"""Token rows: made once from a dataset version, stored, and read by the run card, the trial and the trainer alike."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from heapq import nsmallest
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet as pq

from engine.data.render import Renderer
from engine.data.rendered import TokenRow
from engine.data.room import Room
from engine.data.rows import TEST, Content, Row, fingerprint, iterate_rows, kind_of, rows_at
from engine.data.split import place, split
from engine.files import sync_file, write_json
from engine.objectives import OBJECTIVES
from engine.specs.job import JobSpec
from engine.specs.problem import Problem, ProblemError, problem

TOKENS_VERSION = 4
"""Grows when the same rows, tokenizer and settings would give other tokens than before."""
_HASH = re.compile(r"[0-9a-f]{64}")
KEPT_PREPARATIONS = 24
TASK_TYPE = "task_type"
BATCH_ROWS = 1000


@dataclass(frozen=True, slots=True)
class Prepared:
    """Stored token rows of a run. `eval_path` is None where nothing is kept aside; indices are rows of the version."""

    key: str
    train_path: Path
    eval_path: Path | None
    test_indices: list[int]
    eval_indices: list[int]
    counts: dict[str, Any]


def prepare(
    version_path: Path,
    renderer: Renderer,
    spec: JobSpec,
    cache_folder: Path,
    *,
    mixed_in: Path | None = None,
    seen: Callable[[], None] = lambda: None,
) -> Prepared:
    """Turn a dataset version into the token rows of a run, or find them made before.

    Of the version `mixed_in`, as many rows are trained too as make up the spec's share. `seen` is called before each
    row is read, divided or rendered.
    A version's folder is named by the hash of its rows: they are checked against it when tokens are made of them.

    Raises:
        ProblemError: the rows are of another kind than the objective takes, nothing of them is trained, or they are
            gone or damaged.
    """
    sources = (version_path, mixed_in)
    folder = cache_folder / _key(sources, renderer, spec)
    if not _is_whole(folder):
        shutil.rmtree(folder, ignore_errors=True)
        cache_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".making-", dir=cache_folder) as making:
            made = Path(making) / "made"
            made.mkdir(mode=0o700)
            _make(made, sources, renderer, spec, seen)
            _publish(made, folder)
        _forget_oldest(cache_folder)
    with contextlib.suppress(OSError):
        os.utime(folder)
    return _read(folder)


def view(row: Row, renderer: Renderer, objective: Any, room: Room) -> dict[str, Any]:
    """The token view of a canonical row, from the same columns that are trained.

    `tokens` are those of the first sequence; `sequences` has all of them. `left_out` says why no run takes the row.

    Raises:
        ProblemError: the row is of another kind than the objective takes, or the template refuses it.
    """
    made = sequences_of(row, renderer, objective, room)
    sequences = [sequence for token_row in made for sequence in token_row.source.view()]
    first = sequences[0]
    return {**first, "sequences": sequences, **_became(made), "left_out": _unused(made)}


def sequences_of(row: Row, renderer: Renderer, objective: Any, room: Room) -> list[TokenRow]:
    """The sequences that are trained of a canonical row.

    Without an objective, for rows that none takes yet: the prompt with its answer.

    Raises:
        ProblemError: the row is of another kind than the objective takes, or the template refuses it.
    """
    if objective is None:
        parts = renderer.conversation([*row["prompt"], *row["completion"]], train_on="last")
        return [part.sft_columns() for one in parts for part in one.fit(room)]
    _check_kind(row, objective)
    return OBJECTIVES[objective.kind].tokens(row, renderer, objective, room)  # type: ignore[return-value]


def _unused(made: Sequence[TokenRow]) -> str | None:
    """Why nothing is learned from a row: it is too long, or nothing of it is trained."""
    if any(token_row.source.usable for token_row in made):
        return None
    return "too_long" if any(token_row.source.too_long for token_row in made) else "nothing_trained"


def _became(made: Sequence[TokenRow]) -> dict[str, bool]:
    """Whether a row is several: one for each turn that the template rewrites, or the parts of a long one."""
    parts = [row.source.part for row in made]
    return {"rewritten": parts.count(0) > 1, "split": any(parts)}


def token_columns(lists: Sequence[str]) -> list[str]:
    """The columns whose tokens the model computes, of those that hold lists: others say something of each token."""
    return ["input_ids"] if "input_ids" in lists else list(lists)


def lengths(path: Path) -> list[int]:
    """Tokens of each stored row, in order; of a pair, those of both its sequences."""
    table = pq.read_table(path)
    columns = token_columns([f.name for f in table.schema if pyarrow.types.is_list(f.type)])
    if not columns:
        return []
    counts = [pyarrow.compute.list_value_length(table[name]).to_pylist() for name in columns]
    return [sum(row) for row in zip(*counts, strict=True)]


Sources = tuple[Path, Path | None]


def _key(sources: Sources, renderer: Renderer, spec: JobSpec) -> str:
    version_path, mixed_in = sources
    parts = {
        "version": TOKENS_VERSION,
        "rows": version_path.parent.name,
        "mixed_in": [mixed_in.parent.name, spec.data.mix_in_share] if mixed_in else None,
        "tokenizer": renderer.sha256,
        "objective": spec.objective.model_dump(mode="json"),
        "max_length": spec.data.max_length,
        "truncation": spec.data.truncation,
        "eval_fraction": spec.data.eval_fraction,
        "eval_by": spec.data.eval_by,
        "seed": spec.seed,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def _check_kind(row: Row, objective: Any) -> None:
    kind = objective.kind
    given = kind_of(row)
    if given not in OBJECTIVES[kind].row_kinds:
        needed = ", ".join(OBJECTIVES[kind].row_kinds)
        raise ProblemError([problem("data_rows_do_not_fit", field="objective.kind", needed=needed, given=given)])


def _make(folder: Path, sources: Sources, renderer: Renderer, spec: JobSpec, seen: Callable[[], None]) -> None:
    """Read the version three times, so that no more than a few of its rows are in memory: to check and divide it, and
    for the rows of each side."""
    data, (version_path, mixed_in) = spec.data, sources
    content = Content()
    rows = content.pass_on(_check_first(_rows(version_path, seen), spec.objective))
    parts = split(rows, data.eval_fraction, spec.seed, data.eval_by)
    named = version_path.parent.name
    if content.sha256 is not None and _HASH.fullmatch(named) and content.sha256 != named:
        raise ProblemError([problem("data_damaged", field="data.dataset", detail="sha256")])
    counting = _Counting()
    added = _mixed_in(mixed_in, spec, len(parts.train), seen) if mixed_in else []
    rows = chain(rows_at(_rows(version_path, seen), parts.train), added)
    train = _write(folder / "train.parquet", rows, renderer, spec, counting)
    if not train.sequences:
        values = {"rows": len(parts.train), "max_length": spec.data.max_length}
        said = problem("data_no_trained_tokens", field="data.max_length", **values)
        raise ProblemError([said, *counting.examples.values()])
    evaluation = _write(
        folder / "eval.parquet", rows_at(_rows(version_path, seen), parts.eval), renderer, spec, _Counting()
    )
    counts = {
        **counting.as_dict(),
        "train_rows": train.rows,
        "train_sequences": train.sequences,
        "eval_rows": evaluation.rows,
        "eval_sequences": evaluation.sequences,
        "test_rows": len(parts.test),
        "mixed_in_rows": len(added),
    }
    known = {"counts": counts, "test_indices": parts.test, "eval_indices": parts.eval, "files": _digests(folder)}
    write_json(folder / "prepared.json", known)


def _rows(version_path: Path, seen: Callable[[], None]) -> Iterator[Row]:
    """The rows of a version, one by one."""
    try:
        yield from _told(iterate_rows(version_path), seen)
    except (OSError, pyarrow.ArrowException) as error:
        raise ProblemError([problem("data_damaged", field="data.dataset", detail=type(error).__name__)]) from error


def _mixed_in(path: Path, spec: JobSpec, num_rows: int, seen: Callable[[], None]) -> list[Row]:
    """The rows of a second version that are trained beside `num_rows` of the first: those with the smallest hashes."""
    share = spec.data.mix_in_share
    wanted = round(num_rows * share / (1 - share))
    rows = enumerate(_check_first(_rows(path, seen), spec.objective))
    marks = ((place(fingerprint(row), spec.seed), number) for number, row in rows if row["split"] != TEST)
    chosen = sorted(number for _, number in nsmallest(wanted, marks))
    return list(rows_at(_rows(path, seen), chosen))


def _check_first(rows: Iterator[Row], objective: Any) -> Iterator[Row]:
    for number, row in enumerate(rows):
        if number == 0:
            _check_kind(row, objective)
        yield row


def _digests(folder: Path) -> dict[str, str]:
    """The hash of each stored file of token rows."""
    found = {}
    for path in sorted(folder.glob("*.parquet")):
        with path.open("rb") as handle:
            found[path.name] = hashlib.file_digest(handle, "sha256").hexdigest()
    return found


def _is_whole(folder: Path) -> bool:
    """Whether token rows are stored there, unchanged since they were made."""
    try:
        known = json.loads((folder / "prepared.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(known.get("files") == _digests(folder))


def _told(rows: Iterable[Row], seen: Callable[[], None]) -> Iterator[Row]:
    for row in rows:
        seen()
        yield row


@dataclass(slots=True)
class _Written:
    rows: int = 0
    sequences: int = 0


_SUMS = (
    "total_tokens",
    "trained_tokens",
    "answers",
    "cut_answers",
    "cut_rows",
    "rewritten_rows",
    "split_rows",
    "unused_parts",
)


class _Counting:
    """What the run card says about the training rows."""

    def __init__(self) -> None:
        self.left_out: Counter[str] = Counter()
        self.examples: dict[str, Problem] = {}
        self._sums: Counter[str] = Counter()
        self._longest = 0

    def leave_out(self, why: Problem) -> None:
        self.left_out[why.code] += 1
        self.examples.setdefault(why.code, why)

    def add(self, made: Sequence[TokenRow], unused: int) -> None:
        """Count a row's sequences; `unused` more of it hold nothing that is trained."""
        for row in made:
            source = row.source
            self._sums["total_tokens"] += source.num_tokens
            self._sums["trained_tokens"] += source.num_trained
            self._sums["answers"] += source.num_answers
            self._sums["cut_answers"] += source.answers_cut
            self._longest = max(self._longest, source.longest)
        became = _became(made)
        self._sums["cut_rows"] += any(row.source.truncated for row in made)
        self._sums["rewritten_rows"] += became["rewritten"]
        self._sums["split_rows"] += became["split"]
        self._sums["unused_parts"] += unused

    def as_dict(self) -> dict[str, Any]:
        sums = {name: self._sums[name] for name in _SUMS}
        share = sums["cut_answers"] / sums["answers"] if sums["answers"] else 0.0
        return {
            **sums,
            "cut_answers_share": round(share, 4),
            "longest_row_tokens": self._longest,
            "left_out_rows": self.left_out.total(),
            "left_out": dict(self.left_out),
        }


def _write(path: Path, rows: Iterator[Row], renderer: Renderer, spec: JobSpec, counting: _Counting) -> _Written:
    """Write the token columns of rows; rows that nothing is learned from are left out and counted."""
    written = _Written()
    writer: pq.ParquetWriter | None = None
    try:
        batch: list[dict[str, Any]] = []
        for made in _token_rows(rows, renderer, spec, counting):
            written.rows += 1
            written.sequences += len(made)
            batch += [dict(row) for row in made]
            if len(batch) >= BATCH_ROWS:
                writer, batch = _flush(path, writer, batch), []
        if batch:
            writer = _flush(path, writer, batch)
    finally:
        if writer is not None:
            writer.close()
    return written


def _token_rows(
    rows: Iterator[Row], renderer: Renderer, spec: JobSpec, counting: _Counting
) -> Iterator[list[TokenRow]]:
    chosen: Any = spec.objective
    objective = OBJECTIVES[chosen.kind]
    room = Room(spec.data.max_length, spec.data.truncation)
    for row in rows:
        try:
            made: list[TokenRow] = objective.tokens(row, renderer, chosen, room)  # type: ignore[assignment]
        except ProblemError as error:
            counting.leave_out(error.problems[0])
            continue
        usable = [token_row for token_row in made if token_row.source.usable]
        if usable:
            counting.add(usable, len(made) - len(usable))
            for token_row in usable:
                token_row[TASK_TYPE] = row.get(TASK_TYPE) or ""
            yield usable
        elif _unused(made) == "too_long":
            counting.leave_out(problem("row_tokens_too_long", max_length=room.max_length))
        else:
            counting.leave_out(problem("row_nothing_trained"))


_KINDS: dict[type, pyarrow.DataType] = {
    list: pyarrow.list_(pyarrow.int32()),
    bool: pyarrow.bool_(),
    int: pyarrow.int64(),
    float: pyarrow.float64(),
    str: pyarrow.string(),
}


def _flush(path: Path, writer: pq.ParquetWriter | None, batch: list[dict[str, Any]]) -> pq.ParquetWriter:
    schema = pyarrow.schema([(name, _KINDS[type(value)]) for name, value in batch[0].items()])
    writer = writer or pq.ParquetWriter(path, schema, compression="zstd")
    writer.write_table(pyarrow.Table.from_pylist(batch, schema=schema))
    return writer


def _publish(made: Path, folder: Path) -> None:
    for path in made.iterdir():
        sync_file(path)
    sync_file(made)
    try:
        made.rename(folder)
    except OSError:
        if not (folder / "prepared.json").exists():  # else: another process made the same
            raise
    sync_file(folder.parent)


def _read(folder: Path) -> Prepared:
    known = json.loads((folder / "prepared.json").read_text(encoding="utf-8"))
    evaluation = folder / "eval.parquet"
    return Prepared(
        folder.name,
        folder / "train.parquet",
        evaluation if evaluation.exists() else None,
        known["test_indices"],
        known["eval_indices"],
        known["counts"],
    )


def _forget_oldest(cache_folder: Path) -> None:
    """Keep the preparations that were used last; open files of a running trainer stay readable."""
    made = [path for path in cache_folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
    made.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    for path in made[KEPT_PREPARATIONS:]:
        shutil.rmtree(path, ignore_errors=True)
