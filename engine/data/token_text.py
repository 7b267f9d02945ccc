"""What a person reads for a token: its text, and hex where its bytes are only part of a character."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class TokenText:
    """Pieces of text for the ids of one tokenizer."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._added = {id: token.content for id, token in tokenizer.added_tokens_decoder.items()}
        self._byte_level = _decodes_bytes(tokenizer.backend_tokenizer)
        self._known: dict[int, str] = {}

    def of(self, ids: Sequence[int]) -> list[str]:
        """A piece of text for each id."""
        return [self._piece(id) for id in ids]

    def _piece(self, id: int) -> str:
        if id not in self._known:
            self._known[id] = self._added[id] if id in self._added else self._read(id)
        return self._known[id]

    def _read(self, id: int) -> str:
        token = self._tokenizer.convert_ids_to_tokens(id)
        if token is None:
            return f"<{id}>"
        if self._byte_level:
            table = _byte_of_character()
            if all(character in table for character in token):
                return bytes(table[character] for character in token).decode("utf-8", errors="backslashreplace")
            return str(token)
        if byte := _BYTE.fullmatch(token):
            return bytes([int(byte.group(1), 16)]).decode("utf-8", errors="backslashreplace")
        return str(token).replace("▁", " ")


def _decodes_bytes(backend: Any) -> bool:
    decoder = backend.decoder
    return decoder is not None and "ByteLevel" in json.dumps(json.loads(decoder.__getstate__()))


@lru_cache(maxsize=1)
def _byte_of_character() -> dict[str, int]:
    """The byte behind each character of a byte-level vocabulary (GPT-2's `bytes_to_unicode`, inverted)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table = {chr(byte): byte for byte in printable}
    others = [byte for byte in range(256) if byte not in set(printable)]
    return table | {chr(256 + index): byte for index, byte in enumerate(others)}
