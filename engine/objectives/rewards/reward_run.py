"""The score that a reward model of this studio gives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import model_validator

from engine.objectives.rewards import protocol
from engine.objectives.rewards.protocol import Score, weight
from engine.specs.base import RUN, SpecError, setting
from engine.specs.problem import problem


class RewardRun:
    class Spec(protocol.RewardSpec):
        """Which model."""

        weight: float = weight("Reward model", "The score of a reward model that was trained here.")
        run: str | None = setting(
            None,
            "Reward model",
            "A checkpoint of a run with the reward objective.",
            pattern=RUN,
        )

        @model_validator(mode="after")
        def _is_named(self) -> RewardRun.Spec:
            if self.weight and not self.run:
                field = "objective.rewards.reward_run.run"
                raise SpecError(problem("reward_needs", field=field, reward="reward_run"))
            return self

    def targets(self, spec: Spec) -> Mapping[str, str]:
        return {"run": str(spec.run)}

    def ready(self, spec: Spec, means: Any) -> Score:
        scorer = means.scorer(str(spec.run))
        return lambda answers: scorer.scores(
            [[*one.prompt, {"role": "assistant", "content": one.text}] for one in answers]
        )
