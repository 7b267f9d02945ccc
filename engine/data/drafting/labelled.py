"""Replies in lines that begin with Q: and A:, which small models keep to better than to JSON."""

from __future__ import annotations

import re
from itertools import pairwise

_LABEL = re.compile(
    r"^[\s>*#\-]*(?:\d+[.)]\s*)?\**(?:(?P<q>Q(?:uestion)?|问题?)|(?P<a>A(?:nswer)?|答案?))\s*\d*\**\s*[:：]\**[^\S\n]*",
    re.IGNORECASE | re.MULTILINE,
)


def labelled(text: str) -> list[tuple[str, str]]:
    """The parts of a reply in order: `q` or `a`, and what stands behind it up to the next label.

    A line of an answer that looks like a label of one more answer belongs to the answer.
    """
    found: list[re.Match[str]] = []
    for one in _LABEL.finditer(text):
        if one["q"] or not found or found[-1]["q"]:
            found.append(one)
    ends = [*(one.start() for one in found[1:]), len(text)][: len(found)]
    parts = [("q" if one["q"] else "a", _bare(text[one.end() : end])) for one, end in zip(found, ends, strict=True)]
    return [(label, said) for label, said in parts if said]


def _bare(said: str) -> str:
    """Without the half of a pair of stars whose other half stood before the label."""
    said = said.strip()
    return said.removesuffix("**").rstrip() if said.count("**") % 2 else said


def pairs(text: str) -> list[tuple[str, str]]:
    """Each question with the answer that follows it at once."""
    parts = labelled(text)
    return [
        (question, answer) for (first, question), (second, answer) in pairwise(parts) if (first, second) == ("q", "a")
    ]
