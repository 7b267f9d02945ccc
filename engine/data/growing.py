"""A version that is being made, part by part: what a closed part holds is safe, and a later attempt goes on there."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections import Counter
from pathlib import Path
from typing import IO, Any
from zipfile import BadZipFile

import orjson
import pyarrow.parquet as pq

from engine.data.piece import Piece, Place, Tally
from engine.data.rows import BATCH_ROWS, content_of, parquet_writer
from engine.data.statistics import Statistics
from engine.files import sync_file, write_json
from engine.specs.problem import Problem

PART_BYTES = 256 * 2**20
"""Bytes of the file that a part is made of: what a killed import does again at most."""


class Growing:
    """The folder of an unfinished version: `version/` is what will be kept, beside it what is needed to go on.

    `key` says of what and how it is made: another one begins anew.
    """

    def __init__(self, folder: Path, row_kind: str, key: str) -> None:
        self._folder, self._row_kind, self._key = folder, row_kind, key
        self.version = folder / "version"
        self.tally = Tally()
        self.next: Place | None = None
        """Where in the file the next part begins; None at its start."""
        self._parts = 0
        self._writer: pq.ParquetWriter | None = None
        self._begun_at = 0
        self._is_whole = True
        """Whether no piece is half appended: a signal may come between any two lines."""
        if not self._go_on():
            shutil.rmtree(folder, ignore_errors=True)
            self.version.mkdir(mode=0o700, parents=True)
        self._digests = (folder / "digests").open("ab")
        self._problems = (self.version / "problems.jsonl").open("ab")

    def add(self, piece: Piece) -> None:
        """Append a piece; a part that has become large is closed."""
        self._is_whole = False
        if piece.table is not None:
            if self._writer is None:
                self._writer = parquet_writer(self._part(self._parts), self._row_kind)
            self._writer.write_table(piece.table, row_group_size=BATCH_ROWS)
        self._digests.write(piece.digests)
        self._problems.writelines(orjson.dumps(found.as_dict()) + b"\n" for found in piece.problems)
        self.tally.add(piece.tally)
        if piece.next is not None:
            self.next = piece.next
            if self.next.offset - self._begun_at >= PART_BYTES:
                self.close_part()
        self._is_whole = True

    def leave(self) -> None:
        """Make safe what there is and close the files; of a piece that was only half appended, nothing is kept."""
        if self._is_whole:
            self.close_part()
        elif self._writer is not None:
            self._writer.close()
        self.release()

    def close_part(self) -> None:
        """Make safe what there is, if the file can be read on from here."""
        if self._writer is not None:
            self._writer.close()
            sync_file(self._part(self._parts))
            self._writer = None
            self._parts += 1
        if self.next is None:
            return
        self._begun_at = self.next.offset
        sizes = [_synced(handle) for handle in (self._digests, self._problems)]
        counts = self._folder / f"counts-{self.next.offset}.npz"
        self.tally.statistics.save(counts)
        sync_file(counts)
        state = {"key": self._key, "parts": self._parts, "next": [self.next.offset, self.next.line], "sizes": sizes}
        write_json(self._folder / "state.json", {**state, "counts": counts.name, "tally": _plain(self.tally)})

    def finish(self) -> str:
        """Close everything; returns the hash that names the content."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        self.release()
        with (self._folder / "digests").open("rb") as handle:
            return content_of(iter(lambda: handle.read(1 << 20), b""), self._row_kind)

    def release(self) -> None:
        """Close the open files."""
        for handle in (self._digests, self._problems):
            handle.close()

    @staticmethod
    def take_over(earlier: Path, folder: Path) -> None:
        """Give a new attempt what an earlier one left, in a folder of its own: should that one still live, it writes
        where nobody reads. Closed parts are never written to again, so they are linked."""

        def copy(source: str, target: str) -> None:
            (os.link if source.endswith(".parquet") else shutil.copyfile)(source, target)

        half = folder.with_name(f".half{folder.name}")
        shutil.rmtree(half, ignore_errors=True)
        shutil.copytree(earlier, half, copy_function=copy)
        half.rename(folder)
        shutil.rmtree(earlier, ignore_errors=True)

    def _part(self, number: int) -> Path:
        return self.version / (f"rows-{number:04}.parquet" if number else "rows.parquet")

    def _go_on(self) -> bool:
        """Take up what an earlier attempt left, cut back to its last closed part; whether there was any."""
        try:
            state = json.loads((self._folder / "state.json").read_text(encoding="utf-8"))
            if state["key"] != self._key:
                return False
            tally = _tally(state["tally"])
            tally.statistics = Statistics.load(self._folder / state["counts"])
            paths = (self._folder / "digests", self.version / "problems.jsonl")
            whole = all(path.stat().st_size >= size for path, size in zip(paths, state["sizes"], strict=True))
            if not whole or not all(self._part(number).is_file() for number in range(state["parts"])):
                return False
            for path, size in zip(paths, state["sizes"], strict=True):
                os.truncate(path, size)
        except (OSError, ValueError, KeyError, EOFError, BadZipFile):
            return False
        self.tally, self._parts, self.next = tally, state["parts"], Place(*state["next"])
        self._begun_at = self.next.offset
        with contextlib.suppress(FileNotFoundError):
            self._part(self._parts).unlink()
        return True


def _synced(handle: IO[bytes]) -> int:
    handle.flush()
    sync_file(Path(handle.name))
    return handle.tell()


def _plain(tally: Tally) -> dict[str, Any]:
    return {
        "rows": tally.rows,
        "usable": tally.usable,
        "bad": tally.bad,
        "problems": [found.as_dict() for found in tally.problems],
        "kinds": dict(tally.kinds),
        "shown": tally.shown,
        "other_splits": sorted(tally.other_splits),
    }


def _tally(plain: dict[str, Any]) -> Tally:
    return Tally(
        rows=plain["rows"],
        usable=plain["usable"],
        bad=plain["bad"],
        problems=[Problem.from_dict(one) for one in plain["problems"]],
        kinds=Counter(plain["kinds"]),
        shown=plain["shown"],
        other_splits=set(plain["other_splits"]),
    )
