"""ChainSpec: a chain of runs as a person writes it: what is common to the stages, and each stage's own part."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from engine.specs.base import Spec, SpecError, setting
from engine.specs.problem import problem

SECTIONS = ("model", "data", "objective", "tuner", "training", "resources")
Section = dict[str, Any] | None


class PartialRun(Spec):
    """Some of a run's sections, each with some of its settings; checked once they are put together."""

    seed: int | None = None
    model: Section = None
    data: Section = None
    objective: Section = None
    tuner: Section = None
    training: Section = None
    resources: Section = None

    def sections(self) -> dict[str, Any]:
        """Return what is said, as a run's untrusted data."""
        said = {name: dict(getattr(self, name) or {}) for name in SECTIONS}
        return {**({} if self.seed is None else {"seed": self.seed}), **said}


class StageSpec(PartialRun):
    """One stage: what it does otherwise than the common part."""

    name: str = setting(..., "Name", "How the stage is called within its chain.", min_length=1, max_length=60)


class ChainSpec(PartialRun):
    """A chain: its common part stands at the top, as in a run's file."""

    name: str = setting("chain", "Name", "How the chain is called in the lists.", min_length=1, max_length=60)
    stages: tuple[StageSpec, ...] = Field(min_length=1, max_length=50)

    @model_validator(mode="after")
    def _names_differ(self) -> ChainSpec:
        names = [one.name for one in self.stages]
        for place, name in enumerate(names):
            if name in names[:place]:
                raise SpecError(problem("stage_name_taken", field=f"stages.{place}.name", name=name))
        return self

    def run(self, place: int) -> dict[str, Any]:
        """Return the whole run of a stage as untrusted data: the common part, and what the stage says over it.

        A section of another `kind` takes nothing from the common one: settings belong to their kind.
        """
        common, own = self.sections(), self.stages[place].sections()
        if place:
            common["model"].pop("start_from", None)
        merged = {name: _over(common[name], own[name]) for name in SECTIONS}
        seed = own.get("seed", common.get("seed"))
        return {**({} if seed is None else {"seed": seed}), **merged, "name": self.stages[place].name}


def _over(common: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    other_kind = "kind" in own and own["kind"] != common.get("kind", own["kind"])
    return own if other_kind else {**common, **own}
