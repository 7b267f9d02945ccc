"""What every command works in: home, store and language; and how it answers, for people or as one JSON document."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from app.commands import exits
from app.commands.speech import speech
from app.language import Text
from app.refusal import problems_of
from engine.specs.home import Home
from engine.specs.problem import Problem, ProblemError, problem
from storage.database import Store, open_store
from storage.errors import StoreError

AsJson = Annotated[bool, typer.Option("--json", help=speech()("cli.option.json"))]


@dataclass(frozen=True, slots=True)
class Shell:
    """One call of a command."""

    home: Home
    store: Store
    t: Text
    json: bool

    def answer(self, document: Mapping[str, Any], lines: Iterable[str]) -> None:
        """Print the document, or the lines that say the same to people."""
        answer(self.json, document, lines)

    def tell(self, key: str, /, **values: Any) -> None:
        """Say something to people, beside the answer."""
        say(self.t(key, **values))


def answer(as_json: bool, document: Mapping[str, Any], lines: Iterable[str]) -> None:
    """Print the document, or the lines that say the same to people, where there is no open store."""
    if as_json:
        put(json.dumps(document, ensure_ascii=False, indent=2, default=str))
        return
    for line in lines:
        put(line)


@contextmanager
def shell(as_json: bool) -> Iterator[Shell]:
    """Open home and store for a command, and end it with a sentence and an exit code where something is in the way."""
    t = speech()
    with refusals(as_json):
        home = Home.from_environment()
        try:
            home.ensure()
        except OSError as error:
            found = problem("home_unusable", folder=str(home.root), detail=error.strerror or str(error))
            raise ProblemError([found]) from error
        store = open_store(home.store_url, create=home.is_new())
        try:
            yield Shell(home, store, t, as_json)
        finally:
            store.dispose()


@contextmanager
def refusals(as_json: bool) -> Iterator[None]:
    """Turn problems into sentences, or a JSON document of them, and an exit code."""
    try:
        yield
    except (ProblemError, StoreError) as error:
        refuse(problems_of(error), as_json=as_json)


def refuse(problems: Sequence[Problem], *, as_json: bool, code: int | None = None) -> None:
    """Say what is wrong and how to mend it, and leave.

    Raises:
        typer.Exit: always.
    """
    t = speech()
    for one in problems:
        say(describe(t, one))
    if as_json:
        put(json.dumps({"ok": False, "problems": [document(t, one) for one in problems]}, ensure_ascii=False, indent=2))
    raise typer.Exit(exits.of_problems(problems) if code is None else code)


def describe(t: Text, found: Problem) -> str:
    """Return a problem in one line: where, what, fix."""
    what, fix = t.problem(found)
    line = t("problem.at_line", line=found.where.line) if found.where.line else ""
    place = " · ".join(part for part in (found.file, line, found.where.field) if part)
    return " ".join(part for part in (f"{place}:" if place else "", what, fix) if part)


def document(t: Text, found: Problem) -> dict[str, Any]:
    """Return a problem as the commands print it in JSON."""
    what, fix = t.problem(found)
    at = {"line": found.where.line, "field": found.where.field}
    return {"code": found.code, **({"file": found.file} if found.file else {}), **at, "what": what, "fix": fix}


def put(line: str) -> None:
    """Write a line of the answer."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def say(line: str) -> None:
    """Write a line beside the answer."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def columns(rows: Sequence[Sequence[object]]) -> Iterator[str]:
    """Return rows as lines with aligned columns."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(_width, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        padded = (cell + " " * (width - _width(cell)) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(padded).rstrip()


def _width(text: str) -> int:
    """Cells of a terminal: a Chinese character takes two."""
    from unicodedata import east_asian_width

    return sum(2 if east_asian_width(one) in "WF" else 1 for one in text)
