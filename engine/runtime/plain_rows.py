"""How somebody else writes the rows that a head reads, with the plain library."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from engine.data.template import common
from engine.runtime.head_rows import LEAST_ROWS, Ids, JudgedRows, Message
from engine.specs.job import DataPart

BLANK = "[…]"


@dataclass(frozen=True, slots=True)
class PlainRows:
    """The rows that are nothing but texts; `asked`: as a model is given them that is to answer."""

    texts: Sequence[Sequence[Message]]
    pairs: Sequence[tuple[Ids, Ids]]
    """What the run reads of each text, and what the library gives."""
    asked: bool

    @classmethod
    def of(cls, tokenizer: Any, rows: JudgedRows, *, asked: bool) -> PlainRows:
        """Let the library write them."""
        found = list(_texts(rows))
        pairs = [(ids, _rendered(tokenizer, messages, asked)) for ids, messages in found]
        return cls([messages for _, messages in found], pairs, asked)

    def kept(self, data: DataPart) -> slice:
        """Which part of the library's ids is read.

        What a template writes after an answer is not read, nor what is cut away of a long text.
        """
        if self.asked:
            cut = {"cut_start": slice(-data.max_length, None), "drop": slice(None)}
            return cut.get(data.truncation, slice(data.max_length))
        tails = Counter(len(whole) - len(ids) for ids, whole in self.pairs if whole[: len(ids)] == ids)
        tail = tails.most_common(1)[0][0] if tails else 0
        return slice(-tail if tail else None)

    def alike(self, data: DataPart) -> int:
        """How many sequences that part gives token for token as the run reads them."""
        kept = self.kept(data)
        return sum(whole[kept] == ids for ids, whole in self.pairs)

    def example(self) -> tuple[dict[str, str], ...]:
        """A conversation as most rows are written: what all of them say, and `BLANK` for the rest.

        Texts that begin alike up to the end of a line have an instruction there.
        """
        every = self.texts or [[{"role": "user", "content": ""}]]
        roles = Counter(tuple(str(one["role"]) for one in messages) for messages in every).most_common(1)[0][0]
        alike = [messages for messages in every if tuple(one["role"] for one in messages) == roles]
        return tuple(
            {"role": role, "content": _shared([str(messages[place]["content"]) for messages in alike])}
            for place, role in enumerate(roles)
        )


def _texts(rows: JudgedRows) -> Iterator[tuple[Ids, list[Message]]]:
    for row in rows.rows:
        if not row.said.get("tools"):
            for ids, messages in zip(row.ids, row.conversations(), strict=True):
                if all(isinstance(one.get("content"), str) for one in messages):
                    yield ids, messages


def _rendered(tokenizer: Any, messages: Sequence[Message], asked: bool) -> Ids:
    plain = [{"role": one["role"], "content": one["content"]} for one in messages]
    how = {"add_generation_prompt": asked, "sanitize_control_tokens": True, "return_dict": False}
    return tuple(tokenizer.apply_chat_template(plain, **how))


def _shared(texts: Sequence[str]) -> str:
    if len(texts) < LEAST_ROWS:
        return BLANK
    if len(set(texts)) == 1:
        return texts[0]
    first, last = min(texts), max(texts)  # what these two share, all share
    begin = first[: common(first, last)]
    return begin[: begin.rfind("\n") + 1] + BLANK
