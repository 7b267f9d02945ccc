"""Keys and passwords in the content, by the shapes in which well-known services give them out."""

from __future__ import annotations

import re
from collections.abc import Iterator

from engine.data.doctor.protocol import Finding, Setup, finding
from engine.data.doctor.reading import Seen
from engine.specs.problem import problem

SHAPES: dict[str, tuple[str, re.Pattern[str]]] = {
    "aws": ("A", re.compile(r"(?<![A-Za-z0-9])(?:AKIA|ASIA)[0-9A-Z]{16}(?![A-Za-z0-9])")),
    "github": ("gh", re.compile(r"(?<![A-Za-z0-9])(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{60,})")),
    "model_service": ("sk-", re.compile(r"(?<![A-Za-z0-9])sk-(?:[a-z0-9]{2,10}-)*[A-Za-z0-9_-]{32,}")),
    "google": ("AIza", re.compile(r"(?<![A-Za-z0-9])AIza[0-9A-Za-z_-]{35}(?![0-9A-Za-z_-])")),
    "hugging_face": ("hf_", re.compile(r"(?<![A-Za-z0-9])hf_[A-Za-z0-9]{34}(?![A-Za-z0-9])")),
    "slack": ("xox", re.compile(r"(?<![A-Za-z0-9])xox[abprs]-[0-9A-Za-z-]{20,}")),
    "private_key": ("-----BEGIN", re.compile(r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----\s+[A-Za-z0-9+/=\s]{40,}")),
    "token": ("eyJ", re.compile(r"(?<![\w-])eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{20,}")),
}
"""What it is → a text that must be there, which is quicker to look for, and the shape."""
MANY = 9
"""A key has at least so many different characters; what has fewer stands for one, such as sk-xxxx."""
_STANDS_FOR = re.compile(r"EXAMPLE|(?i:your|example|placeholder|redacted|\*\*\*|\.\.\.)|0123456789|12345678|abcdefgh")


class Secrets:
    """A finding never carries the secret, only what it looks like."""

    def __init__(self, _setup: Setup) -> None:
        self._rows: dict[str, list[int]] = {}

    def see(self, row: Seen) -> None:
        for what in {what for text in row.texts for what in secrets_in(text)}:
            self._rows.setdefault(what, []).append(row.number)

    def findings(self) -> Iterator[Finding]:
        for what, rows in sorted(self._rows.items()):
            yield finding(problem("doctor_secrets", rows=len(rows), what=what), "error", rows, of=what)


def secrets_in(text: str) -> Iterator[str]:
    """What kinds of secrets a text holds."""
    for what, (mark, shape) in SHAPES.items():
        if mark in text and any(_is_real(found.group()) for found in shape.finditer(text)):
            yield what


def _is_real(found: str) -> bool:
    return len(set(found)) >= MANY and any(map(str.isdigit, found)) and not _STANDS_FOR.search(found)
