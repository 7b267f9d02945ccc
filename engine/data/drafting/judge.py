"""Scores for each row's answer: points for each dimension, put together by weight."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from engine.data.drafting.asked import asked, question_of
from engine.data.drafting.protocol import BadReply, Reply, Unit, drafted
from engine.data.rows import Row
from engine.specs import recipes
from engine.specs.prompts import filled


class Judge:
    format: str = "scored"

    def units(self, rows: Iterable[Row], settings: recipes.Judge) -> Iterator[Unit | None]:
        names = ", ".join(settings.weights())
        for one in asked(rows):
            if one is None:
                yield None
                continue
            said = filled(settings.prompt, {**one.texts, "question": one.shown, "dimensions": names})
            shown = f"{one.shown}\n\n[assistant] {one.answer['content']}"
            yield Unit(one.number, one.number, one.row, shown, [{"role": "user", "content": said}])

    def read(self, reply: Reply, unit: Unit, settings: recipes.Judge) -> list[Row]:
        weights = settings.weights()
        points = {name: _points(name, reply.text) for name in weights}
        missing = [name for name, given in points.items() if given is None]
        if missing:
            raise BadReply("draft_no_points", reply, names=", ".join(missing))
        score = sum(weights[name] * (given or 0) for name, given in points.items()) / sum(weights.values())
        found = question_of(unit)
        said = {"prompt": [*found.before, found.question], "completion": [found.answer]}
        return [drafted(unit, **said, label=score >= settings.good_from, score=score)]


def _points(name: str, text: str) -> int | None:
    line = rf"^\W*{re.escape(name)}\W*(?:\([^)\n]*\))?\W*[:：]\W*([1-5])(?![\d.,/]*\d)(?!\s*/)(?:\W|$)|" + (
        rf"^\W*{re.escape(name)}\W*(?:\([^)\n]*\))?\W*[:：]\W*([1-5])\s*/\s*5(?!\d)"
    )
    found = re.search(line, text, re.IGNORECASE | re.MULTILINE)
    return int(found[1] or found[2]) if found else None
