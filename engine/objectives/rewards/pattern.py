"""1 for an answer in which a regular expression is found, else 0."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import regex
from pydantic import model_validator

from engine.objectives.rewards import protocol
from engine.objectives.rewards.protocol import Score, weight
from engine.specs.base import SpecError, setting
from engine.specs.problem import problem

FIELD = "objective.rewards.regex.pattern"
PATIENCE_S = 0.2
"""For one answer; where it takes longer, the expression counts as not found."""


class Pattern:
    class Spec(protocol.RewardSpec):
        """What is looked for."""

        weight: float = weight("Pattern", "1 where a regular expression is found in the answer.")
        pattern: str | None = setting(
            None, "Pattern", "The regular expression; a search that takes long counts as not found.", max_length=1000
        )
        whole: bool = setting(False, "Pattern: whole answer", "The expression must describe the answer as a whole.")

        @model_validator(mode="after")
        def _compiles(self) -> Pattern.Spec:
            if self.weight and not self.pattern:
                raise SpecError(problem("reward_needs", field=FIELD, reward="regex"))
            try:
                regex.compile(self.pattern or "")
            except (regex.error, RecursionError) as error:
                raise SpecError(problem("reward_pattern", field=FIELD, detail=str(error)[:200])) from error
            return self

    def targets(self, spec: Any) -> Mapping[str, str]:
        del spec
        return {}

    def ready(self, spec: Spec, means: Any) -> Score:
        del means
        return lambda answers: [float(found(str(spec.pattern), one.text, whole=spec.whole)) for one in answers]


def found(pattern: str, text: str, *, whole: bool = False) -> bool:
    """Whether an expression describes a text or a part of it; a search is given up after a moment."""
    look = regex.fullmatch if whole else regex.search
    try:
        return look(pattern, text.strip() if whole else text, timeout=PATIENCE_S) is not None
    except TimeoutError:
        return False
