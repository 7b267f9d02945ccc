"""Answers that teach nothing: empty ones, single words among sentences, and text that goes round in circles."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from engine.data.doctor.protocol import Finding, Setup, finding
from engine.data.doctor.reading import Seen
from engine.data.doctor.words import words
from engine.specs.problem import problem

USUAL_SHARE = 0.1
"""Where more of the answers are single words, that is the task's form, as in classification."""
LEAST_WORDS = 24
LONGEST_GRAM = 4
REPEATED_SHARE = 0.5
"""One run of at most `LONGEST_GRAM` words that makes so much of an answer is a loop."""


class Answers:
    """Looks at each answer of a row; a row is found once however many of its answers are bad."""

    def __init__(self, setup: Setup) -> None:
        self._num_rows = setup.num_rows
        self._empty: list[int] = []
        self._one_word: list[int] = []
        self._repeating: list[int] = []

    def see(self, row: Seen) -> None:
        told = [words(answer) for answer in row.answers]
        if any(not answer.strip() for answer in row.answers):
            self._empty.append(row.number)
        elif any(_is_a_word(said, answer) for said, answer in zip(told, row.answers, strict=True)):
            self._one_word.append(row.number)
        if any(repeats(said) for said in told):
            self._repeating.append(row.number)

    def findings(self) -> Iterator[Finding]:
        if self._empty:
            yield finding(problem("doctor_empty_answers", rows=len(self._empty)), "error", self._empty)
        if 0 < len(self._one_word) <= USUAL_SHARE * self._num_rows:
            yield finding(problem("doctor_one_word_answers", rows=len(self._one_word)), "note", self._one_word)
        if self._repeating:
            yield finding(problem("doctor_repeating_answers", rows=len(self._repeating)), "warning", self._repeating)


def _is_a_word(said: list[str], answer: str) -> bool:
    """Whether an answer is a single word; a number, an address or code is an answer in itself."""
    return len(said) == 1 and said[0].isalpha() and answer.strip(" \n.!?。！？") == said[0]


def repeats(said: list[str]) -> bool:
    """Whether one run of words makes half of an answer."""
    if len(said) < LEAST_WORDS or len(set(said)) > REPEATED_SHARE * len(said) + LONGEST_GRAM:
        return False
    return any(_most_common(said, size) * size >= REPEATED_SHARE * len(said) for size in range(1, LONGEST_GRAM + 1))


def _most_common(said: list[str], size: int) -> int:
    """How often the commonest run of words comes, one after the other without overlap."""
    grams = Counter(zip(*(said[start:] for start in range(size)), strict=False))
    gram, _ = grams.most_common(1)[0]
    count, place = 0, 0
    while place <= len(said) - size:
        if tuple(said[place : place + size]) == gram:
            count, place = count + 1, place + size
        else:
            place += 1
    return count
