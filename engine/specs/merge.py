"""MergeSpec: several checkpoints or models become one; everything that decides how."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, SerializeAsAny, field_validator, model_validator

from engine.merging import MERGES
from engine.specs.base import EntrySpec, Spec, SpecError, entry_of, setting
from engine.specs.problem import problem
from engine.specs.versions import VersionPart

TARGET = r"^(base:.{1,200}|\d{1,18}@\d{1,18})$"


class MergeSource(Spec):
    """One of what is merged."""

    target: str = setting(..., "Source", "A checkpoint, JOB@STEP, or a model, base:MODEL.", pattern=TARGET)
    weight: float = setting(1.0, "Weight", "What it counts beside the others.", gt=0.0, le=1e6)
    data: VersionPart | None = Field(None, description="The rows that it learned from; filled in at the start.")


class MergedModel(Spec):
    """The model that all sources stand on."""

    id: str = setting(..., "Model", "The model that the sources were trained from.", min_length=1, max_length=200)
    revision: str | None = None


class MergeSpec(Spec):
    """A merge."""

    schema_version: Literal[1] = 1
    name: str = setting("merge", "Name", "How the result is called in the lists.", min_length=1, max_length=120)
    sources: tuple[MergeSource, ...] = Field(min_length=2, max_length=20)
    method: SerializeAsAny[EntrySpec]
    form: Literal["auto", "adapter", "weights"] = setting(
        "auto",
        "Result",
        "adapter: an adapter on the sources' base; weights: a whole model; auto: an adapter where that is exact.",
    )
    rank: int | None = setting(
        None,
        "Rank",
        "Width of a merged adapter; empty: that of all sources together, which loses nothing in a mean.",
        ge=1,
        le=4096,
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = setting(
        "auto",
        "Number format",
        "Format of whole weights; auto takes that of the sources, and float32 where adapters are folded in.",
    )
    seed: int = setting(42, "Seed", "Decides what is drawn at random.", ge=0, le=2**31 - 1)
    model: MergedModel
    base: str | None = setting(
        None,
        "Common base",
        "The model that counts as unchanged, base:MODEL; empty: the one that the sources were trained from.",
        pattern=r"^base:.{1,200}$",
    )
    data: VersionPart | None = Field(
        None, description="Rows on which all sources are measured and an export is compared; empty: their own."
    )

    @field_validator("method", mode="before")
    @classmethod
    def _known_method(cls, value: Any) -> EntrySpec:
        return entry_of(value, {kind: entry.Spec for kind, entry in MERGES.items()}, "method")

    @model_validator(mode="after")
    def _sources_fit(self) -> MergeSpec:
        method = MERGES[self.method.kind]
        named = [one.target for one in self.sources]
        if len(named) > method.most:
            values: dict[str, Any] = {"method": method.kind, "most": method.most, "given": len(named)}
            raise SpecError(problem("merge_too_many", field="sources", **values))
        if len(set(named)) < len(named):
            twice = next(one for place, one in enumerate(named) if one in named[:place])
            raise SpecError(problem("merge_twice", field="sources", given=twice))
        if method.of_one_run and len({one.partition("@")[0] for one in named}) > 1:
            raise SpecError(problem("merge_not_one_run", field="sources", method=method.kind))
        if method.needs_rows and self.form == "adapter":
            raise SpecError(problem("merge_needs_weights", field="form", method=method.kind))
        return self
