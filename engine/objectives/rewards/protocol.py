"""What a reward is: a number for an answer that was drawn in training. One file a reward, one line in `__init__`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from engine.specs.base import Spec, setting

Messages = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Answer:
    """One drawn answer, and what is known of its row."""

    prompt: Messages
    text: str
    reference: str
    """The row's own answer."""
    num_tokens: int


Score = Callable[[Sequence[Answer]], Sequence[float | None]]
"""One number an answer, before its weight; None where this reward has nothing to say on it."""


class RewardSpec(Spec):
    """The settings of a reward. Each overrides `weight` with a label of its own."""

    weight: float = 0.0


def weight(name: str, help: str) -> Any:
    """The field of a reward's weight, 0 where it is not used; `help` says what it is given for."""
    return setting(0.0, f"{name}: weight", help, simple=True, ge=-1e6, le=1e6)


class Reward(Protocol):
    """An entry of the catalogue of rewards; stateless."""

    @property
    def Spec(self) -> type[RewardSpec]:
        """Its settings in a run's spec. Their validator refuses a weight without what it needs."""
        ...

    def targets(self, spec: Any) -> Mapping[str, str]:
        """The runs that it loads: the setting that names each, and the name."""
        ...

    def ready(self, spec: Any, means: Any) -> Score:
        """Return what scores answers; `means` is the `Means` of `engine/runtime/parts.py`.

        Raises:
            ProblemError: what it needs is not there.
        """
        ...
