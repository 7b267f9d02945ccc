"""Documents cut into passages that a model can read at once, at the ends of paragraphs where that is possible."""

from __future__ import annotations

import re
from collections.abc import Iterator

_PARAGRAPH = re.compile(r"\n\s*\n")
_SENTENCE = re.compile(r"(?<=[.!?…])\s+|(?<=[。！？])")


def passages(text: str, longest: int) -> Iterator[str]:
    """The passages of a text in order, each of at most `longest` characters; only white space is lost."""
    waiting = ""
    for piece in _pieces(text, longest):
        joined = f"{waiting}\n\n{piece}" if waiting else piece
        if len(joined) <= longest:
            waiting = joined
            continue
        yield waiting
        waiting = piece
    if waiting:
        yield waiting


def _pieces(text: str, longest: int) -> Iterator[str]:
    """Paragraphs; too long ones by sentences, too long sentences by length."""
    for paragraph in _PARAGRAPH.split(text):
        whole = paragraph.strip()
        if len(whole) <= longest:
            yield from [whole] if whole else []
            continue
        for sentence in _grouped(_SENTENCE.split(whole), longest):
            yield from (
                part for start in range(0, len(sentence), longest) if (part := sentence[start : start + longest])
            )


def _grouped(sentences: list[str], longest: int) -> Iterator[str]:
    waiting = ""
    for sentence in sentences:
        joined = f"{waiting} {sentence}" if waiting else sentence
        if waiting and len(joined) > longest:
            yield waiting
            waiting = sentence
        else:
            waiting = joined
    if waiting:
        yield waiting
