"""A folder of files as one source of rows: a data set as it is saved or fetched, or a pile of documents.

Files are taken by their endings, since a folder holds much that is no data, and read by their content. What is left
out is told. A file that cannot be read is a problem of its own; the others go on.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from engine.data.containers import ENDINGS, open_file
from engine.data.source import Line, Rows, Source, in_file
from engine.formats.columns import TEST_SPLITS, TRAIN_SPLITS
from engine.formats.strict_json import BadJson, parse
from engine.specs.limits import max_file_bytes
from engine.specs.problem import Problem, ProblemError, problem

DOCUMENTS = tuple(ending for kind in ("txt", "md", "pdf", "docx") for ending in ENDINGS[kind])
TABLES = tuple({ending for endings in ENDINGS.values() for ending in endings} - set(DOCUMENTS))
LINES = ("jsonl", "ndjson", "csv", "tsv")
DESCRIPTIONS = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json")
MAX_FILES = 100_000
MAX_NAMED = 10
MAX_STATE_BYTES = 4 * 2**20
HELD_OUT = TEST_SPLITS | {"validation", "valid", "val", "dev", "eval"}

Files = Sequence[tuple[str, Path]]


def read_folder(folder: Path) -> Source:
    """The rows of all data files below a folder, in the order of their names.

    Where the files' names tell training rows from others (`train`, `test`, `validation`), rows without a split of
    their own have that of their file.

    Raises:
        ProblemError: there is no data file, or too much.
    """
    files, others = data_files(folder)
    warnings: list[Problem] = []
    if others:
        warnings.append(problem("folder_files_left_out", files=_names(others)))
    splits = _splits(files)
    if splits:
        held_out = [name for name, split in splits.items() if split == "test"]
        warnings.append(problem("split_from_file_names", files=_names(held_out)))
    place = "line" if all(_ending(name) in LINES for name, _ in files) else "row"
    return Source("folder", place, _rows(files, splits, warnings), warnings)


def copy_folder(folder: Path, target: Path) -> None:
    """Copy the data files of a folder, and nothing else."""
    for name, path in data_files(folder)[0]:
        copied = target / name
        copied.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        shutil.copyfile(path, copied, follow_symlinks=False)
        copied.chmod(0o400)


def data_files(folder: Path) -> tuple[Files, list[str]]:
    """The data files below a folder, by their names in it; and the names of the other files. Links are not followed.

    Raises:
        ProblemError: there is none, or too much.
    """
    found = list(_walk(folder))
    names = {name for name, _ in found}
    chosen = data_names(names)
    taken = [one for one in found if one[0] in chosen]
    size = sum(path.stat().st_size for _, path in taken)
    if size > (limit := max_file_bytes()):
        raise ProblemError([problem("file_too_large", bytes=size, limit=limit)])
    if not taken:
        raise ProblemError([problem("folder_no_files", files=_names(sorted(names)) or "-")])
    return taken, sorted(name for name in names - chosen if Path(name).name not in DESCRIPTIONS)


def data_names(names: Iterable[str]) -> set[str]:
    """Those that are names of files of rows; where there are none, those of documents."""
    known = [name for name in names if Path(name).name not in DESCRIPTIONS]
    tables = {name for name in known if _ending(name) in TABLES}
    return tables or {name for name in known if _ending(name) in DOCUMENTS}


def _walk(folder: Path) -> Iterator[tuple[str, Path]]:
    """The ordinary files below a folder, hidden ones aside; of a folder that names its files, those alone."""
    count = 0
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        here = Path(parent)
        listed = _listed(here)
        for name in sorted(files):
            path = here / name
            if name.startswith(".") or path.is_symlink() or not path.is_file():
                continue
            if listed and _ending(name) == "arrow" and name not in listed:
                continue
            count += 1
            if count > MAX_FILES:
                raise ProblemError([problem("folder_too_many_files", limit=MAX_FILES)])
            yield path.relative_to(folder).as_posix(), path


def _listed(folder: Path) -> set[str]:
    """The files that a saved data set says it consists of; others beside them are left from earlier work."""
    state = folder / "state.json"
    if state.is_symlink() or not state.is_file() or state.stat().st_size > MAX_STATE_BYTES:
        return set()
    try:
        return {str(one["filename"]) for one in parse(state.read_bytes())["_data_files"]}
    except (BadJson, OSError, KeyError, TypeError):
        return set()


def _splits(files: Files) -> dict[str, str]:
    """File → split, by the words of its name, where there are files of both."""
    found = {name: split for name, _ in files if (split := _split(name)) is not None}
    return found if set(found.values()) == {"train", "test"} else {}


def _split(name: str) -> str | None:
    words = [word for word in re.split(r"[^a-z]+", name.lower()) if word]
    said = ["test" if word in HELD_OUT else "train" for word in words if word in HELD_OUT | TRAIN_SPLITS]
    return said[-1] if said else None


def _rows(files: Files, splits: Mapping[str, str], warnings: list[Problem]) -> Rows:
    told: dict[str, tuple[Problem, list[str]]] = {}
    for name, path in files:
        split = splits.get(name)
        try:
            with open_file(path, source_name=path.name) as source:
                for said in source.warnings:
                    told.setdefault(str(said), (said, []))[1].append(name)
                for line, raw in source.rows:
                    if isinstance(raw, Problem):
                        yield Line(line, name), in_file(raw, name)
                        continue
                    if splits:  # also of files that say nothing, so that every row has the column
                        raw.setdefault("split", split)
                    yield Line(line, name), raw
        except ProblemError as error:
            first = error.problems[0]
            yield Line(first.where.line or 1, name), in_file(first, name)
    warnings += [in_file(said, _names(names)) for said, names in told.values()]


def _names(names: Sequence[str]) -> str:
    shown = ", ".join(name[:80] for name in names[:MAX_NAMED])
    return f"{shown} … ({len(names)})" if len(names) > MAX_NAMED else shown


def _ending(name: str) -> str:
    return re.sub(r"\.gz$", "", name.lower()).rpartition(".")[2]
