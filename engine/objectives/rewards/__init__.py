"""The rewards by name. A run's reward is the sum of those with a weight, each times its weight."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import create_model

from engine.objectives.rewards.exact_match import ExactMatch
from engine.objectives.rewards.json_schema import JsonSchema
from engine.objectives.rewards.json_valid import JsonValid
from engine.objectives.rewards.judge import Judge
from engine.objectives.rewards.language import Language
from engine.objectives.rewards.length import Length
from engine.objectives.rewards.number_match import NumberMatch
from engine.objectives.rewards.pattern import Pattern
from engine.objectives.rewards.protocol import Reward, RewardSpec, Score
from engine.objectives.rewards.reward_run import RewardRun
from engine.specs.base import Spec

REWARDS: dict[str, Reward] = {
    "exact_match": ExactMatch(),
    "number_match": NumberMatch(),
    "regex": Pattern(),
    "json_valid": JsonValid(),
    "json_schema": JsonSchema(),
    "length": Length(),
    "language": Language(),
    "reward_run": RewardRun(),
    "judge": Judge(),
}

_FIELDS: dict[str, Any] = {name: (entry.Spec, entry.Spec()) for name, entry in REWARDS.items()}
if TYPE_CHECKING:

    class Rewards(Spec):
        """The section of a spec with the settings of every reward, under its name."""

else:
    Rewards = create_model("Rewards", __base__=Spec, **_FIELDS)
CURVE = "rewards/{name}/mean"


def chosen(rewards: Any) -> dict[str, RewardSpec]:
    """The settings of those rewards of a spec's section that have a weight."""
    found = {name: getattr(rewards, name) for name in REWARDS}
    return {name: spec for name, spec in found.items() if spec.weight}


def targets(rewards: Any) -> dict[str, str]:
    """The runs that the chosen rewards load, by the path of the setting within the section."""
    return {
        f"{name}.{setting}": text
        for name, spec in chosen(rewards).items()
        for setting, text in REWARDS[name].targets(spec).items()
    }


def ready(rewards: Any, means: Any) -> dict[str, Score]:
    """What scores the answers of a run.

    Raises:
        ProblemError: what a reward needs is not there.
    """
    return {name: REWARDS[name].ready(spec, means) for name, spec in chosen(rewards).items()}


def curves(objective: Mapping[str, Any]) -> list[str]:
    """The names of the curves of the rewards that the JSON of an objective's section gives a weight."""
    section = objective.get("rewards")
    named = section if isinstance(section, Mapping) else {}
    return [CURVE.format(name=name) for name in REWARDS if (named.get(name) or {}).get("weight")]
