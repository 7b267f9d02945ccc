"""1 for an answer that is JSON, else 0."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.objectives.rewards import protocol
from engine.objectives.rewards.json_reading import NO_JSON, read
from engine.objectives.rewards.protocol import Score, weight


class JsonValid:
    class Spec(protocol.RewardSpec):
        """Nothing to choose."""

        weight: float = weight("JSON", "1 where the answer as a whole is JSON, alone or in a code fence.")

    def targets(self, spec: Any) -> Mapping[str, str]:
        del spec
        return {}

    def ready(self, spec: Spec, means: Any) -> Score:
        del spec, means
        return lambda answers: [float(read(one.text) is not NO_JSON) for one in answers]
