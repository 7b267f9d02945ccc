"""How somebody else writes the rows that a head reads, with the plain library."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from engine.data.template import common
from engine.runtime.head_rows import LEAST_ROWS, Ids, JudgedRows, Message
from engine.specs.job import DataPart

BLANK = "[…]"


@dataclass(frozen=True, slots=True)
class PlainRows:
    """The rows that are nothing but texts; `asked`: as a model is given them that is to answer."""

    tokenizer: Any
    rows: JudgedRows
    asked: bool

    def kept(self, data: DataPart) -> str:
        """Which part of the library's ids is read, as the index of a slice; empty: all of them.

        What a template writes after an answer is not read, nor what is cut away of a long text.
        """
        if self.asked:
            cut = {"cut_start": f"[-{data.max_length}:]", "drop": ""}
            return cut.get(data.truncation, f"[:{data.max_length}]")
        tails = Counter(len(whole) - len(ids) for ids, whole in self._pairs() if whole[: len(ids)] == ids)
        tail = tails.most_common(1)[0][0] if tails else 0
        return f"[:-{tail}]" if tail else ""

    def alike(self, data: DataPart) -> int:
        """How many sequences that part gives token for token as the run reads them."""
        kept = self.kept(data).strip("[]")
        start, _, end = kept.partition(":")
        part = slice(int(start) if start else None, int(end) if end else None)
        return sum(whole[part] == ids for ids, whole in self._pairs())

    def example(self) -> tuple[dict[str, str], ...]:
        """A conversation as most rows are written: what all of them say, and `BLANK` for the rest.

        Texts that begin alike up to the end of a line have an instruction there.
        """
        every = [messages for _, messages in self._texts()] or [[{"role": "user", "content": ""}]]
        roles = Counter(tuple(str(one["role"]) for one in messages) for messages in every).most_common(1)[0][0]
        alike = [messages for messages in every if tuple(one["role"] for one in messages) == roles]
        return tuple(
            {"role": role, "content": _shared([str(messages[place]["content"]) for messages in alike])}
            for place, role in enumerate(roles)
        )

    def _texts(self) -> list[tuple[Ids, list[Message]]]:
        return [
            (ids, messages)
            for row in self.rows.rows
            if not row.said.get("tools")
            for ids, messages in zip(row.ids, row.conversations(), strict=True)
            if all(isinstance(one.get("content"), str) for one in messages)
        ]

    def _pairs(self) -> list[tuple[Ids, Ids]]:
        """What the run reads, and what the library gives."""
        return [(ids, self._rendered(messages)) for ids, messages in self._texts()]

    def _rendered(self, messages: Sequence[Message]) -> Ids:
        plain = [{"role": one["role"], "content": one["content"]} for one in messages]
        how = {"add_generation_prompt": self.asked, "sanitize_control_tokens": True, "return_dict": False}
        return tuple(self.tokenizer.apply_chat_template(plain, **how))


def _shared(texts: Sequence[str]) -> str:
    if len(texts) < LEAST_ROWS:
        return BLANK
    if len(set(texts)) == 1:
        return texts[0]
    first, last = min(texts), max(texts)  # what these two share, all share
    begin = first[: common(first, last)]
    return begin[: begin.rfind("\n") + 1] + BLANK
