"""1 for the row's number, else 0, as GSM8K is scored: the number behind the last `####`, else the last number.

Cobbe et al. 2021 mark the result of a solution with `####`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from engine.objectives.rewards import protocol
from engine.objectives.rewards.protocol import Answer, Score, weight
from engine.specs.base import setting

MARK = "####"
_NUMBER = re.compile(
    r"(?:(?<![\w.,)])[-+\u2212])?(?<![0-9.])"
    r"(?:(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?|\.[0-9]+)"
)
"""A sign belongs to a number only where nothing that could be subtracted from stands before it."""


class NumberMatch:
    class Spec(protocol.RewardSpec):
        """How near the number has to be."""

        weight: float = weight("Number match", "1 where the answer's last number, or that behind ####, is the row's.")
        tolerance: float = setting(
            0.0, "Number match: tolerance", "By how much the number may differ from the row's.", ge=0.0, le=1e12
        )

    def targets(self, spec: Any) -> Mapping[str, str]:
        del spec
        return {}

    def ready(self, spec: Spec, means: Any) -> Score:
        del means
        tolerance = Decimal(str(spec.tolerance))
        return lambda answers: [_score(one, tolerance) for one in answers]


def _score(answer: Answer, tolerance: Decimal) -> float | None:
    wanted, found = number_of(answer.reference), number_of(answer.text)
    if wanted is None:
        return None
    return float(found is not None and abs(found - wanted) <= tolerance)


def number_of(text: str) -> Decimal | None:
    """The result that a text names; None where it has no number.

    >>> number_of("so 3 * 4 = 12 #### 1,012.50"), number_of("from 5-3 I get -2"), number_of("none")
    (Decimal('1012.50'), Decimal('-2'), None)
    """
    before, mark, behind = text.rpartition(MARK)
    if mark and (found := _NUMBER.search(behind)):
        return _decimal(found[0])
    every = _NUMBER.findall(before + behind)
    return _decimal(every[-1]) if every else None


def _decimal(written: str) -> Decimal:
    return Decimal(written.replace(",", "").replace("\u2212", "-"))
