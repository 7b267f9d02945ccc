"""What a recipe is: how a version's rows become requests, and how a reply becomes rows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

from engine.data.rows import Row, fingerprint
from engine.formats.columns import GENERATED
from engine.specs.problem import Problem, problem

SHOWN_CHARACTERS = 300
_THOUGHTS = re.compile(r"^\s*<think>.*?(?:</think>\s*|\Z)", re.DOTALL)
Messages = list[dict[str, str]]


@dataclass(frozen=True, slots=True)
class Unit:
    """One request. Its number is the same whenever the same version is gone through with the same settings."""

    number: int
    row_number: int
    row: Row
    shown: str
    """What a person reads beside the drafts: the passage, or the question."""
    messages: Messages
    """What is sent."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back; `is_cut` where it ended because it was as long as it may be. Token counts None: not told."""

    text: str
    is_cut: bool = False
    tokens_in: int | None = None
    tokens_out: int | None = None


def without_thoughts(reply: Reply) -> Reply:
    """The reply without the reasoning that some models write first: it is no part of what was asked for."""
    return replace(reply, text=_THOUGHTS.sub("", reply.text, count=1))


class BadReply(Exception):
    """No row can be made of a reply."""

    def __init__(self, code: str, reply: Reply, **values: Any) -> None:
        start = reply.text.strip()[:SHOWN_CHARACTERS]
        self.problem: Problem = problem(code, reply=start, **values)
        super().__init__(code)


class Recipe(Protocol):
    """One way to draft rows. `format` is the shape of its rows, of the kind that its settings say."""

    format: str

    def units(self, rows: Iterable[Row], settings: Any) -> Iterator[Unit | None]:
        """The requests, in order; None for a row that has nothing to ask."""
        ...

    def read(self, reply: Reply, unit: Unit, settings: Any) -> list[Row]:
        """The rows of a reply.

        Raises:
            BadReply: it has none.
        """
        ...


def drafted(unit: Unit, **content: Any) -> Row:
    """A row made from a unit: marked, held out where its source is, and kept together with what has the same source."""
    source = unit.row
    group = source.get("group") or fingerprint(source).hex()[:16]
    shared = {"split": source.get("split"), "task_type": source.get("task_type"), "group": group}
    return {**content, **shared, "origin": GENERATED}
