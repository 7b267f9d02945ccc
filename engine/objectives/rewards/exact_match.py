"""1 for the very answer of the row, else 0."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.objectives.rewards import protocol
from engine.objectives.rewards.protocol import Score, weight
from engine.specs.base import setting


class ExactMatch:
    class Spec(protocol.RewardSpec):
        """How alike they have to be."""

        weight: float = weight("Exact match", "1 where the answer is that of the row.")
        ignore_case: bool = setting(
            False, "Exact match: any case", "Capital and small letters count as the same, and any space as one."
        )

    def targets(self, spec: Any) -> Mapping[str, str]:
        del spec
        return {}

    def ready(self, spec: Spec, means: Any) -> Score:
        del means
        plain = _folded if spec.ignore_case else str.strip
        return lambda answers: [float(plain(one.text) == plain(one.reference)) for one in answers]


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())
