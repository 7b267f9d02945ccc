"""The specs of making data: drafting rows with a model, and collecting those that a person kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import SerializeAsAny, field_validator, model_validator

from engine.specs.base import EntrySpec, Spec, SpecError, entry_of, setting
from engine.specs.generators import GENERATORS, GeneratorSpec
from engine.specs.problem import problem
from engine.specs.recipes import RECIPES, RecipeSpec
from engine.specs.versions import VersionPart


class DraftSpec(Spec):
    """Ask a model for rows, one request for each passage or row of a dataset version."""

    data: VersionPart
    recipe: SerializeAsAny[RecipeSpec]
    generator: SerializeAsAny[GeneratorSpec]
    requests: int | None = setting(
        10,
        "Requests",
        "How many passages or rows are used, from the first; empty: all. Try a few first.",
        simple=True,
        ge=1,
        le=10_000_000,
    )
    max_tokens: int = setting(512, "Longest reply", "A reply is cut there.", unit="tokens", ge=1, le=32_768)
    temperature: float = setting(
        0.7, "Temperature", "0 gives the likeliest reply; higher ones differ more.", ge=0.0, le=2.0
    )
    seed: int = setting(42, "Seed", "Another seed gives other replies.", ge=0, le=2**31 - 1)
    budget: float | None = setting(
        None,
        "Budget",
        "Stop once the replies have cost this much, in the unit of the prices; going on allows as much again. "
        "Empty: no limit.",
        gt=0.0,
    )

    @field_validator("recipe", mode="before")
    @classmethod
    def _known_recipe(cls, value: Any) -> EntrySpec:
        return entry_of(value, RECIPES, "recipe")

    @field_validator("generator", mode="before")
    @classmethod
    def _known_generator(cls, value: Any) -> EntrySpec:
        return entry_of(value, GENERATORS, "generator")

    @model_validator(mode="after")
    def _a_budget_has_prices(self) -> DraftSpec:
        if self.budget is not None and not cost(self.generator.model_dump(), 1, 1):
            raise SpecError(problem("spec_budget_without_price", field="budget"))
        return self


def cost(generator: Mapping[str, Any], tokens_in: int, tokens_out: int) -> float:
    """What so many tokens cost, in the unit of the generator's prices; nothing on this machine."""
    price_in, price_out = (float(generator.get(name) or 0) for name in ("price_in", "price_out"))
    return (price_in * tokens_in + price_out * tokens_out) / 1e6


class CollectSpec(Spec):
    """Make a dataset of the drafts of a job that were kept."""

    job: int = setting(..., "Job", "The job that drafted them.", ge=1)
    name: str = setting(..., "Name", "How the new dataset is called.", min_length=1, max_length=200)
