"""Left-overs of a chat template in the content: control tokens, headings of a prompt, names of the speakers."""

from __future__ import annotations

import re
from collections.abc import Iterator

from engine.data.doctor.protocol import Finding, Setup, finding
from engine.data.doctor.reading import Seen
from engine.specs.problem import problem

CONTROL = re.compile(
    r"<\|[A-Za-z][A-Za-z0-9_]{0,38}\|>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>|\A<s>|</s>\s*\Z|<[｜][^<>]{1,40}[｜]>"
)
HEADING = re.compile(r"^#{2,3} ?(?:Instruction|Response|Input|Human|Assistant|User|System)s?: *$", re.MULTILINE)
ASKING = re.compile(r"^(?:Human|User|Q)[:：] ?\S", re.MULTILINE)
ANSWERING = re.compile(r"^(?:Assistant|AI|Bot|GPT|ChatGPT|A)[:：] ?\S", re.MULTILINE)
OPENING = re.compile(r"\A\s*(?:Assistant|AI|Bot|GPT|ChatGPT|Response|Answer)[:：] ?\S")
MARKS = {CONTROL: ("<", "["), HEADING: ("##",), ASKING: (":", "："), ANSWERING: (":", "：")}
"""Signs of which one must be there, which is quicker to look for."""
SEARCHED = 200_000
"""Characters of a content that are looked through."""


class Leftovers:
    """A name of a speaker alone is no left-over: only where an answer begins with one, or both of them take turns."""

    def __init__(self, setup: Setup) -> None:
        self._reads_talks = setup.row_kind != "text"
        self._rows: dict[str, list[int]] = {"control": [], "headings": [], "speakers": []}
        self._examples: dict[str, str] = {}

    def see(self, row: Seen) -> None:
        texts = [text[:SEARCHED] for text in row.texts]
        self._note("control", row.number, _first(CONTROL, texts))
        self._note("headings", row.number, _first(HEADING, texts))
        if self._reads_talks:
            self._note("speakers", row.number, _speaker(texts, row.answers))

    def _note(self, kind: str, index: int, example: str | None) -> None:
        if example is not None:
            self._rows[kind].append(index)
            self._examples.setdefault(kind, example.strip())

    def findings(self) -> Iterator[Finding]:
        abouts = {
            "control": lambda **values: problem("doctor_control_tokens", **values),
            "headings": lambda **values: problem("doctor_headings", **values),
            "speakers": lambda **values: problem("doctor_speakers", **values),
        }
        for kind, rows in self._rows.items():
            if rows:
                yield finding(abouts[kind](rows=len(rows), example=self._examples[kind]), "warning", rows)


def _first(pattern: re.Pattern[str], texts: list[str]) -> str | None:
    marks = MARKS[pattern]
    looked_at = (text for text in texts if any(mark in text for mark in marks))
    return next((found.group() for text in looked_at if (found := pattern.search(text))), None)


def _speaker(texts: list[str], answers: tuple[str, ...]) -> str | None:
    for answer in answers:
        if found := OPENING.match(answer[:100]):
            return found.group()[:-1]
    for text in texts:
        answered = _first(ANSWERING, [text])
        if answered and _first(ASKING, [text]):
            return answered[:-1]
    return None
