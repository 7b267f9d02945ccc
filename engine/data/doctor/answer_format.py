"""Answers that break the form of the others: no JSON where the others are JSON, or other keys than theirs."""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Iterator

import numpy
import orjson

from engine.data.doctor.protocol import Finding, Setup, finding
from engine.data.doctor.reading import Seen, hash64
from engine.specs.problem import problem

USUAL_SHARE = 0.8
LEAST_ROWS = 10
NO_JSON, PLAIN, FENCED = 0, 1, 2
_FENCE = re.compile(r"\A```(?:json)?\s*\n(.*?)\n?```\s*\Z", re.DOTALL)


class AnswerFormat:
    """A form is the rule where at least four of five answers have it. Empty answers are another check's."""

    def __init__(self, _setup: Setup) -> None:
        self._rows = array("Q")
        self._forms = bytearray()
        self._keys = array("Q")
        self._names: dict[int, str] = {}

    def see(self, row: Seen) -> None:
        if not row.answer.strip():
            return
        form, names = form_of(row.answer)
        mark = hash64(*names) if names is not None else 0
        if names is not None and len(self._names) < 1000:
            self._names.setdefault(mark, ", ".join(names))
        self._rows.append(row.number)
        self._forms.append(form)
        self._keys.append(mark)

    def findings(self) -> Iterator[Finding]:
        if len(self._rows) < LEAST_ROWS:
            return
        rows = numpy.frombuffer(self._rows, numpy.uint64)
        forms = numpy.frombuffer(self._forms, numpy.uint8)
        keys = numpy.frombuffer(self._keys, numpy.uint64)
        usual, count = Counter(forms.tolist()).most_common(1)[0]
        if usual == NO_JSON or count < USUAL_SHARE * len(forms):
            return
        others = forms != usual
        if others.any():
            about = problem("doctor_not_json", rows=int(others.sum()), share=round(100 * count / len(forms)))
            yield finding(about, "warning", rows[others])
        same, count = Counter(keys[~others].tolist()).most_common(1)[0]
        different = ~others & (keys != same)
        if different.any() and same and count >= USUAL_SHARE * int((~others).sum()):
            about = problem("doctor_other_keys", rows=int(different.sum()), keys=self._names.get(same, ""))
            yield finding(about, "warning", rows[different])


def form_of(answer: str) -> tuple[int, list[str] | None]:
    """Whether an answer is JSON, bare or in a fence, and an object's keys in order."""
    text = answer.strip()
    fenced = _FENCE.match(text)
    text = fenced.group(1).strip() if fenced else text
    if not text.startswith(("{", "[")):
        return NO_JSON, None
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return NO_JSON, None
    return FENCED if fenced else PLAIN, sorted(value) if isinstance(value, dict) else None
