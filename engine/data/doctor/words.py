"""Words as people count them: runs of letters and digits, and each character of a script without spaces."""

from __future__ import annotations

import re

WITHOUT_SPACES = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u0e00-\u0e7f"
_WORD = re.compile(f"[{WITHOUT_SPACES}]|[^\\W{WITHOUT_SPACES}]+")


def words(text: str) -> list[str]:
    """The words of a text, in order.

    >>> words("It's 3 o'clock. 你好")
    ['It', 's', '3', 'o', 'clock', '你', '好']
    """
    return _WORD.findall(text)
