"""1 for an answer whose number of tokens lies in a range; outside of it, less with the distance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import model_validator

from engine.objectives.rewards import protocol
from engine.objectives.rewards.protocol import Score, weight
from engine.specs.base import SpecError, setting
from engine.specs.problem import problem


class Length:
    class Spec(protocol.RewardSpec):
        """The range."""

        weight: float = weight("Length", "1 where the answer has as many tokens as it should, less with the distance.")
        least: int = setting(
            1,
            "Length: at least",
            "Tokens of the shortest answer that is short enough.",
            unit="tokens",
            ge=0,
            le=100_000,
        )
        most: int = setting(
            200,
            "Length: at most",
            "Tokens of the longest answer that is not too long.",
            unit="tokens",
            ge=1,
            le=100_000,
        )

        @model_validator(mode="after")
        def _is_a_range(self) -> Length.Spec:
            if self.least > self.most:
                values: dict[str, Any] = {"given": self.least, "allowed": self.most, "detail": ""}
                raise SpecError(problem("spec_too_large", field="objective.rewards.length.least", **values))
            return self

    def targets(self, spec: Any) -> Mapping[str, str]:
        del spec
        return {}

    def ready(self, spec: Spec, means: Any) -> Score:
        del means
        return lambda answers: [score(one.num_tokens, spec.least, spec.most) for one in answers]


def score(num_tokens: int, least: int, most: int) -> float:
    """1 inside the range; below it in proportion, above it falling to 0 at twice the most.

    >>> score(5, 10, 20), score(10, 10, 20), score(30, 10, 20), score(50, 10, 20)
    (0.5, 1.0, 0.5, 0.0)
    """
    if num_tokens < least:
        return num_tokens / least
    return max(0.0, 1.0 - max(0, num_tokens - most) / most)
