"""Text that every database takes: PostgreSQL refuses NUL, and no encoding has half a character."""

from __future__ import annotations

import re

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_NOT_PLAIN = re.compile("[\0\ud800-\udfff]")
NOT_PLAIN_JSON = re.compile(r"\\u(?:0000|d[89a-f])")
"""What such text looks like in JSON; pairs that are one whole character look so too."""


def plain(text: str) -> str:
    """The text, with a sign in the place of each NUL and each half of a character."""
    return _NOT_PLAIN.sub(REPLACEMENT, text)
