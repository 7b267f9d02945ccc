"""A new answer to each row's question; earlier turns of the row come before it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from engine.data.drafting.asked import Asked, asked, question_of
from engine.data.drafting.protocol import BadReply, Messages, Reply, Unit, drafted
from engine.data.rows import Row
from engine.specs import recipes
from engine.specs.prompts import filled

PLAIN = ("system", "user", "assistant")


class Answers:
    format: str = "messages"

    def units(self, rows: Iterable[Row], settings: recipes.Answers) -> Iterator[Unit | None]:
        for one in asked(rows):
            if one is None or any(turn["role"] not in PLAIN for turn in one.before):
                yield None  # an answer in the middle of tool calls is not one that a model can give alone
            else:
                yield Unit(one.number, one.number, one.row, one.shown, _sent(one, settings))

    def read(self, reply: Reply, unit: Unit, settings: Any) -> list[Row]:
        del settings
        if reply.is_cut:
            raise BadReply("draft_cut", reply)
        if not reply.text.strip():
            raise BadReply("draft_empty", reply)
        found = question_of(unit)
        turns = [*found.before, found.question, {"role": "assistant", "content": reply.text.strip()}]
        return [drafted(unit, messages=turns)]


def _sent(one: Asked, settings: recipes.Answers) -> Messages:
    told = [{"role": turn["role"], "content": turn["content"]} for turn in one.before]
    if settings.system:
        told = [{"role": "system", "content": settings.system}, *(turn for turn in told if turn["role"] != "system")]
    return [*told, {"role": "user", "content": filled(settings.prompt, one.texts)}]
