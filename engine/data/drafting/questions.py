"""Questions with their answers, from passages of documents."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from engine.data.drafting.labelled import pairs
from engine.data.drafting.passages import passages
from engine.data.drafting.protocol import BadReply, Reply, Unit, drafted
from engine.data.rows import Row
from engine.specs import recipes
from engine.specs.prompts import filled


class Questions:
    format: str = "messages"

    def units(self, rows: Iterable[Row], settings: recipes.Questions) -> Iterator[Unit]:
        number = 0
        for place, row in enumerate(rows):
            for passage in passages(row["text"], settings.passage_characters):
                said = filled(settings.prompt, {"passage": passage, "count": settings.count})
                yield Unit(number, place, row, passage, [{"role": "user", "content": said}])
                number += 1

    def read(self, reply: Reply, unit: Unit, settings: recipes.Questions) -> list[Row]:
        found = pairs(reply.text)
        whole = found[:-1] if reply.is_cut else found
        if not whole:
            raise BadReply("draft_cut" if reply.is_cut else "draft_no_pairs", reply)
        return [
            drafted(unit, messages=[{"role": "user", "content": said}, {"role": "assistant", "content": answer}])
            for said, answer in list(dict.fromkeys(whole))[: settings.count]
        ]
