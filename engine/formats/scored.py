"""Scored answers: a prompt, one or several answers and the score of each, which become a row each.

The scores are kept as they are: a pair would only say which is better, not by how much.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from engine.formats.columns import Columns
from engine.formats.judged import ANSWERS, SCORES, has_numbers, judged_answers, prompt_of, unpaired
from engine.formats.protocol import Raw, Recognised, Row
from engine.formats.recognising import by_columns


class ScoredFormat:
    kind: ClassVar[str] = "scored"
    row_kind: ClassVar[str] = "unpaired"
    roles: ClassVar[Mapping[str, Sequence[str]]] = {
        "prompt": ("prompt", "question", "instruction", "query", "input"),
        "answers": (*ANSWERS, "completion", "response", "answer", "output"),
        "scores": SCORES,
        "system": ("system", "system_prompt"),
    }
    required: ClassVar[Sequence[str]] = ("prompt", "answers")
    options: ClassVar[Mapping[str, str]] = {}

    def recognise(self, sample: Sequence[Raw]) -> Recognised:
        several = by_columns(
            sample, self.roles, self.required, test=lambda raw, to: has_numbers(raw, to, role="scores", keys=SCORES)
        )
        if several.confidence:
            return several
        # One answer with a score is more often one to be learned, whose score is beside the point.
        return by_columns(sample, self.roles, (*self.required, "scores"), sure=0.8)

    def convert(self, raw: Raw, columns: Columns) -> list[Row]:
        prompt, field = prompt_of(raw, columns), columns.name("answers")
        judged = judged_answers(raw, columns, role="scores", keys=SCORES)
        return [unpaired(prompt, answer, field=field, score=score) for answer, score in judged]
