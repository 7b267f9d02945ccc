"""Answers in a language that hardly any other answer is in."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from engine.data.doctor.protocol import Finding, Setup, finding
from engine.data.doctor.reading import Seen
from engine.data.doctor.words import WITHOUT_SPACES
from engine.specs.problem import problem

MOST_JUDGED = 50_000
"""Of more rows, evenly spaced ones are judged: a text takes a good part of a millisecond."""
JUDGED_CHARACTERS = 240
LEAST_LETTERS, LEAST_SIGNS = 60, 15
"""Shorter texts are not judged; a sign of a script without spaces says more than a letter."""
LEAST_CERTAIN = 0.97
MINORITY_SHARE = 0.05
JUDGED = (
    "ar bg bn ca cs da de el en es et fa fi fr gu he hi hr hu id it ja kn ko lt lv mk ml mr ms nl no pa pl pt ro ru sk "
    "sl sq sr sv sw ta te th tl tr uk ur vi zh"
)
"""The languages that are told apart: with dialects among them, certainty would be shared out."""
_CODE = re.compile(r"[{}<>=;_\\|`$#@\[\]/0-9]")
_SIGN = re.compile(f"[{WITHOUT_SPACES}]")


class Languages:
    """Judges answers, those that are text and no code. A language is in the minority below one row in twenty."""

    def __init__(self, setup: Setup) -> None:
        self._every = max(1, -(-setup.num_rows // MOST_JUDGED))
        self._rows: dict[str, list[int]] = {}

    def see(self, row: Seen) -> None:
        if row.number % self._every == 0 and (language := language_of(row.answer)) is not None:
            self._rows.setdefault(language, []).append(row.number)

    def findings(self) -> Iterator[Finding]:
        counts = Counter({language: len(rows) for language, rows in self._rows.items()})
        judged = counts.total()
        if judged == 0:
            return
        main = counts.most_common(1)[0][0]
        for language, rows in counts.most_common():
            if rows <= MINORITY_SHARE * judged:
                about = problem("doctor_other_language", rows=rows, language=language, main=main, judged=judged)
                yield finding(about, "note", self._rows[language], of=language)


def language_of(text: str) -> str | None:
    """The language of a text by its two letters; None where it is too short, code, or too unlike any to tell."""
    piece = text[:JUDGED_CHARACTERS]
    letters, signs = sum(map(str.isalpha, piece)), len(_SIGN.findall(piece))
    if letters - signs < LEAST_LETTERS and signs < LEAST_SIGNS:
        return None
    if len(_CODE.findall(piece)) > 0.05 * len(piece):
        return None
    language, certain = _identifier().classify(piece)
    return str(language) if certain >= LEAST_CERTAIN else None


@lru_cache(maxsize=1)
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    identifier.set_languages(JUDGED.split())
    return identifier
