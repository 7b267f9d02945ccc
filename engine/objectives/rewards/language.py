"""1 for an answer in a language, 0 for one in another; nothing where it cannot be told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from engine.objectives.rewards import protocol
from engine.objectives.rewards.protocol import Answer, Score, weight
from engine.specs.base import setting

Judged = Literal[
    "ar", "bg", "bn", "ca", "cs", "da", "de", "el", "en", "es", "et", "fa", "fi", "fr", "gu", "he", "hi", "hr", "hu",
    "id", "it", "ja", "kn", "ko", "lt", "lv", "mk", "ml", "mr", "ms", "nl", "no", "pa", "pl", "pt", "ro", "ru", "sk",
    "sl", "sq", "sr", "sv", "sw", "ta", "te", "th", "tl", "tr", "uk", "ur", "vi", "zh",
]  # fmt: skip
"""The languages that are told apart (see `engine/data/doctor/languages.py`)."""


class Language:
    class Spec(protocol.RewardSpec):
        """Which language."""

        weight: float = weight(
            "Language", "1 where the answer is in the language; an answer too short to tell counts neither way."
        )
        code: Judged = setting("en", "Language", "Its two letters, such as en, de or zh.")

    def targets(self, spec: Any) -> Mapping[str, str]:
        del spec
        return {}

    def ready(self, spec: Spec, means: Any) -> Score:
        del means
        return lambda answers: [_score(one, spec.code) for one in answers]


def _score(answer: Answer, wanted: str) -> float | None:
    from engine.data.doctor.languages import language_of

    found = language_of(answer.text)
    return None if found is None else float(found == wanted)
