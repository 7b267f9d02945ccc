"""Rankings: a prompt, several answers and the place of each (1 is the best), which become preference pairs.

Scores make a ranking as well, the highest the best, where a person chooses this format for them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from engine.formats.columns import Columns
from engine.formats.judged import ANSWERS, RANKS, SCORES, has_numbers, judged_answers, pairs, prompt_of
from engine.formats.protocol import Raw, Recognised, Row
from engine.formats.recognising import by_columns


class RankingsFormat:
    kind: ClassVar[str] = "rankings"
    row_kind: ClassVar[str] = "preference"
    roles: ClassVar[Mapping[str, Sequence[str]]] = {
        "prompt": ("prompt", "question", "instruction", "query", "input"),
        "answers": ANSWERS,
        "ranks": RANKS,
        "scores": SCORES,
        "system": ("system", "system_prompt"),
    }
    required: ClassVar[Sequence[str]] = ("prompt", "answers")
    options: ClassVar[Mapping[str, str]] = {}

    def recognise(self, sample: Sequence[Raw]) -> Recognised:
        ranked = by_columns(
            sample, self.roles, self.required, test=lambda raw, to: has_numbers(raw, to, role="ranks", keys=RANKS)
        )
        if ranked.confidence:
            return ranked
        return by_columns(
            sample,
            self.roles,
            self.required,
            sure=0.9,
            test=lambda raw, to: has_numbers(raw, to, role="scores", keys=SCORES),
        )

    def convert(self, raw: Raw, columns: Columns) -> list[Row]:
        field = columns.name("answers")
        if has_numbers(raw, columns.mapping, role="scores", keys=SCORES) and "ranks" not in columns:
            scored = judged_answers(raw, columns, role="scores", keys=SCORES)
            return pairs(prompt_of(raw, columns), sorted(scored, key=lambda one: -one[1]), field=field)
        ranked = judged_answers(raw, columns, role="ranks", keys=RANKS)
        return pairs(prompt_of(raw, columns), sorted(ranked, key=lambda one: one[1]), field=field)
