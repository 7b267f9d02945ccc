"""Ids as they come from outside: digits that fit the store, or none at all."""

from __future__ import annotations

import re

LARGEST = 2**63 - 1
DIGITS = re.compile(r"[0-9]{1,18}")


def number(text: str | None) -> int | None:
    """Return the id that a text is; None where it is none.

    >>> number("12"), number("9" * 40), number("1;2"), number("²"), number(None)
    (12, None, None, None, None)
    """
    return int(text) if text and DIGITS.fullmatch(text) else None
