"""Tokens to text while they come: no half characters, no lost spaces."""

from __future__ import annotations

from typing import Any

HALF = "\ufffd"
"""What decoding gives for bytes that are no whole character yet."""


class Detokeniser:
    """Grows a text token by token. Decodes a short window each time: some tokenizers drop a leading space."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        self._before, self._read = 0, 0
        self.text = ""

    def add(self, token: int) -> str:
        """Take one token; return the text so far."""
        self._ids.append(token)
        known = self._decode(self._before, self._read)
        window = self._decode(self._before, len(self._ids))
        if len(window) > len(known) and not window.endswith(HALF):
            self.text += window[len(known) :]
            self._before, self._read = self._read, len(self._ids)
        return self.text

    def end(self) -> str:
        """The whole text; a character that was never finished is left out."""
        known = self._decode(self._before, self._read)
        self.text += self._decode(self._before, len(self._ids))[len(known) :].rstrip(HALF)
        self._before = self._read = len(self._ids)
        return self.text

    def _decode(self, begin: int, end: int) -> str:
        return str(
            self._tokenizer.decode(self._ids[begin:end], skip_special_tokens=True, clean_up_tokenization_spaces=False)
        )
