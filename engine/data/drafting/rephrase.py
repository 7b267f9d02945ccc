"""Other ways to ask each row's question; its answer stays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from engine.data.drafting.asked import asked, question_of
from engine.data.drafting.labelled import labelled
from engine.data.drafting.protocol import BadReply, Reply, Unit, drafted
from engine.data.rows import Row
from engine.specs import recipes
from engine.specs.prompts import filled


class Rephrase:
    format: str = "messages"

    def units(self, rows: Iterable[Row], settings: recipes.Rephrase) -> Iterator[Unit | None]:
        for one in asked(rows):
            if one is None:
                yield None
                continue
            said = filled(settings.prompt, {**one.texts, "count": settings.count})
            yield Unit(one.number, one.number, one.row, one.shown, [{"role": "user", "content": said}])

    def read(self, reply: Reply, unit: Unit, settings: recipes.Rephrase) -> list[Row]:
        found = [said for label, said in labelled(reply.text) if label == "q"]
        whole = dict.fromkeys(found[:-1] if reply.is_cut else found)
        whole.pop(question_of(unit).question["content"], None)  # the question itself again
        if not whole:
            raise BadReply("draft_cut" if reply.is_cut else "draft_no_questions", reply)
        return [_with(unit, said) for said in list(whole)[: settings.count]]


def _with(unit: Unit, question: str) -> Row:
    found = question_of(unit)
    turns = [*found.before, {**found.question, "content": question}, found.answer, *found.after]
    return drafted(unit, messages=turns, tools=unit.row.get("tools"))
