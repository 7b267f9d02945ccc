"""What an objective's own section tells of its runs beside its settings; an objective says only what is unusual."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from engine.specs.base import EntrySpec
from engine.specs.problem import Problem


@dataclass(frozen=True, slots=True)
class Needs:
    """What sets the runs of an objective apart; by default nothing."""

    samples: int = 0
    """How many sequences a row becomes in a step of a trainer that takes whole batches alone; 0: it is one, and the
    last batch of a pass may be smaller."""
    updates: int = 1
    """How many steps are made of what was drawn once."""
    targets: Mapping[str, str] = field(default_factory=dict)
    """The other models that it loads: the path of the setting that names each within its section, and the name
    (`base:MODEL`, JOB or JOB@STEP)."""
    least_batch: int = 1
    """The fewest rows of a forward pass that it can work on."""
    reference: bool = False
    """Whether it holds the model to where it starts, so that the start has to stay the same through the run."""
    places: bool = False
    """Whether it reads places of a sequence that a tuner must not move by tokens of its own before them."""


class ObjectiveSpec(EntrySpec):
    """The section of an objective."""

    def needs(self) -> Needs:
        """What a run needs that most do not."""
        return Needs()

    def misfits(self, run: Any) -> Sequence[Problem]:
        """What in the whole `JobSpec` does not go together with this section."""
        del run
        return ()
